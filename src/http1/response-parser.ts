/**
 * Parses the answers on one connection, one at a time, strictly (RFC 9112). It does no I/O and
 * calls nobody: bytes are fed, events are pulled, so whoever stops pulling has paused it.
 *
 *   idle --begin--> head --1xx--> head            (event `information`; a 100 gives none)
 *                    |  '--101--> switched        (event `upgrade`, if it was asked for)
 *                    |  '--any other--> length | chunked | until-close | ending  (event `head`)
 *   length ------ all bytes --------------> ending    (events `data`)
 *   chunked ----- last chunk --> trailers --> ending    (events `data`)
 *   until-close -- finish() --------------> idle      (events `data`)
 *   ending ------ next() -----------------> idle      (event `end`)
 *
 * A `MalformedAnswer` can be thrown from each: the connection is of no use any more.
 */
import { ChunkedDecoder } from './chunked.ts';
import { FieldReader } from './field-reader.ts';
import { framingOf } from './framing.ts';
import { NOT_WHOLE } from './line-end.ts';
import { MalformedAnswer } from './malformed.ts';

/** `more`: all that was fed is taken. What an event tells is in the fields of the parser. */
export type ParserEvent = 'more' | 'information' | 'head' | 'data' | 'end' | 'upgrade';

export interface ExpectedAnswer {
  readonly method: string;
  /** The protocol that was asked for. */
  readonly upgrade: string | undefined;
}

type State =
  'idle' | 'head' | 'switched' | 'length' | 'chunked' | 'trailers' | 'until-close' | 'ending';

/** An app that says `102 Processing` every second may do so for an hour. */
const MAX_INFORMATIONS = 3600;
const EMPTY = Buffer.alloc(0);
const NO_FIELDS: string[] = [];

export class ResponseParser {
  readonly #fields: FieldReader;
  readonly #chunks = new ChunkedDecoder();
  #state: State = 'idle';
  #method = '';
  #upgrade: string | undefined;
  #informationCount = 0;
  /** What was fed, and which of it is not taken yet. */
  #bytes: Buffer = EMPTY;
  #at = 0;
  #end = 0;
  /** Of a body of known length, what has not come yet. */
  #left = 0;

  /** With `information`, `head` and `upgrade`. */
  statusCode = 0;
  rawHeaders: string[] = NO_FIELDS;
  /** With `data`: where it stands in `bytes`, until the next call. */
  dataStart = 0;
  dataEnd = 0;
  /** With `end`. */
  rawTrailers: string[] = NO_FIELDS;
  /** With `end`: whether the server will take another request on this connection. */
  isPersistent = false;
  /** With `end`: the value of `Keep-Alive`. */
  keepAlive: string | undefined;

  constructor(maxHeadBytes: number) {
    this.#fields = new FieldReader(maxHeadBytes);
  }

  /** Makes ready for the answer to a request; the one before has ended. */
  begin({ method, upgrade }: ExpectedAnswer): void {
    this.#state = 'head';
    this.#method = method;
    this.#upgrade = upgrade;
    this.#informationCount = 0;
    this.#fields.beginHead();
  }

  get bytes(): Buffer {
    return this.#bytes;
  }

  /** Whether something was fed that is not taken yet. */
  get hasRest(): boolean {
    return this.#at < this.#end;
  }

  /** Whether the answer's head has not come yet. */
  get isInHead(): boolean {
    return this.#state === 'head';
  }

  /** Whether more data will come, or may come. */
  get isInBody(): boolean {
    return this.#state === 'length' || this.#state === 'chunked' || this.#state === 'until-close';
  }

  /** Hands over the first `end` bytes of `bytes`, which may be written to until they are taken. */
  feed(bytes: Buffer, end: number): void {
    if (this.hasRest) {
      this.#bytes = Buffer.concat([this.takeRest(), bytes.subarray(0, end)]);
      this.#end = this.#bytes.length;
    } else {
      this.#bytes = bytes;
      this.#end = end;
    }
    this.#at = 0;
  }

  /** Lets go of what was fed: a rest is copied, as whoever has paused will ask for it later. */
  release(): void {
    this.rawHeaders = NO_FIELDS;
    this.#bytes = this.hasRest ? this.takeRest() : EMPTY;
    this.#at = 0;
    this.#end = this.#bytes.length;
  }

  /** A copy of what was fed and is not taken: after `upgrade` the first bytes of the other protocol. */
  takeRest(): Buffer {
    const rest = Buffer.from(this.#bytes.subarray(this.#at, this.#end));
    this.#at = this.#end;
    return rest;
  }

  next(): ParserEvent {
    for (;;) {
      if (this.#state === 'ending') return this.#endAnswer();
      if (!this.hasRest) return 'more';
      const event = this.#advance();
      if (event !== undefined) return event;
    }
  }

  /** The connection has ended. Returns whether the answer is whole by that. */
  finish(): boolean {
    if (this.#state !== 'until-close') return false;
    this.#endAnswer();
    return true;
  }

  #advance(): ParserEvent | undefined {
    switch (this.#state) {
      case 'head':
        return this.#readHead();
      case 'length':
        return this.#takeLength();
      case 'chunked':
        return this.#takeChunks();
      case 'until-close':
        return this.#takeData(this.#end);
      case 'trailers':
        return this.#readTrailers();
      case 'ending':
      case 'switched':
      case 'idle':
        return 'more';
    }
  }

  #endAnswer(): ParserEvent {
    this.#state = 'idle';
    return 'end';
  }

  #readHead(): ParserEvent | undefined {
    if (!this.#readFields()) return 'more';
    const { statusLine } = this.#fields;
    if (!statusLine) throw new MalformedAnswer('a head has no status line');
    this.statusCode = statusLine.statusCode;
    this.rawHeaders = this.#fields.takeFields();
    if (this.statusCode === 101) return this.#switchProtocol();
    if (this.statusCode < 200) return this.#takeInformation();
    const framing = framingOf(this.#method, statusLine, this.rawHeaders);
    this.isPersistent = framing.isPersistent;
    this.keepAlive = framing.keepAlive;
    this.rawTrailers = NO_FIELDS;
    this.#left = framing.length;
    if (framing.body === 'chunked') this.#chunks.begin();
    this.#state = framing.body === 'none' ? 'ending' : framing.body;
    return 'head';
  }

  /** Returns whether the empty line has come. */
  #readFields(): boolean {
    const at = this.#fields.read(this.#bytes, this.#at, this.#end);
    this.#at = at === NOT_WHOLE ? this.#end : at;
    return at !== NOT_WHOLE;
  }

  /** RFC 9110 §15.2: any number of them may come before the answer. Nobody has asked for a 100. */
  #takeInformation(): ParserEvent | undefined {
    this.#informationCount += 1;
    if (this.#informationCount > MAX_INFORMATIONS) {
      throw new MalformedAnswer(`more than ${MAX_INFORMATIONS} informational heads`);
    }
    this.#fields.beginHead();
    return this.statusCode === 100 ? undefined : 'information';
  }

  /** RFC 9110 §7.8: only to a protocol that was asked for, which the server has to name. */
  #switchProtocol(): ParserEvent {
    if (this.#upgrade === undefined || !isAgreed(this.#upgrade, this.rawHeaders)) {
      throw new MalformedAnswer('101 to a protocol that was not asked for');
    }
    this.#state = 'switched';
    return 'upgrade';
  }

  #takeLength(): ParserEvent {
    const byteCount = Math.min(this.#left, this.#end - this.#at);
    this.#left -= byteCount;
    if (this.#left === 0) this.#state = 'ending';
    return this.#takeData(this.#at + byteCount);
  }

  #takeData(end: number): ParserEvent {
    this.dataStart = this.#at;
    this.dataEnd = this.#at = end;
    return 'data';
  }

  #takeChunks(): ParserEvent | undefined {
    const chunks = this.#chunks;
    this.#at = chunks.decode(this.#bytes, this.#at, this.#end);
    if (chunks.isDone) {
      this.#state = 'trailers';
      this.#fields.beginTrailers();
    }
    this.dataStart = chunks.dataStart;
    this.dataEnd = chunks.dataEnd;
    return chunks.dataStart === chunks.dataEnd ? undefined : 'data';
  }

  #readTrailers(): ParserEvent | undefined {
    if (!this.#readFields()) return 'more';
    this.rawTrailers = this.#fields.takeFields();
    if (this.rawTrailers.some(isFraming)) {
      throw new MalformedAnswer('the trailers say how long the answer was');
    }
    this.#state = 'ending';
    return undefined;
  }
}

function isAgreed(asked: string, rawHeaders: readonly string[]): boolean {
  const protocols = tokensOf(asked);
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toLowerCase() !== 'upgrade') continue;
    return tokensOf(rawHeaders[i + 1] ?? '').every((token) => protocols.includes(token));
  }
  return false;
}

function tokensOf(list: string): string[] {
  return list.split(',').map((token) => token.trim().toLowerCase());
}

/** RFC 9110 §6.5.1: who merges the trailers with the head would read another answer. */
function isFraming(text: string, index: number): boolean {
  if (index % 2 === 1) return false;
  const name = text.toLowerCase();
  return name === 'content-length' || name === 'transfer-encoding';
}
