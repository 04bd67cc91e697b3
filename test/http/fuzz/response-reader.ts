/** Reads the bytes of an app with the parsers of the engine, as an upstream connection does. */
import { ResponseParser } from '../../../src/http/response-parser.ts';
import { BodyReader, BROKEN_BODY, type Framing } from '../../../src/http/body-reader.ts';
import { type ParsedResponseHead } from '../../../src/http/response-head.ts';
import { sinkTo, TRAILER_OPTIONS } from './request-reader.ts';

export interface ResponseRead {
  readonly interim: readonly ParsedResponseHead[];
  readonly head: ParsedResponseHead | undefined;
  readonly framing: Framing;
  /** The decoded body. */
  readonly body: string;
  /** The body as it is passed on. */
  readonly passed: string;
  /** Positions in all bytes: after the final head, and after the last byte of the response. */
  readonly headEnd: number;
  readonly end: number;
  /** `open`: more input is needed, or the end of the connection. */
  readonly ending: 'open' | 'refused' | 'broken body' | 'complete' | 'switched';
}

const parser = new ResponseParser({ headBytes: 65_536, fields: 500 });

export function readResponse(pieces: readonly Buffer[], method: string): ResponseRead {
  const reader = new ResponseReader(method);
  for (const piece of pieces) reader.receive(piece);
  return reader.read;
}

/** Reads one response. */
export class ResponseReader {
  readonly #interim: ParsedResponseHead[] = [];
  readonly #method: string;
  readonly read: { -readonly [Key in keyof ResponseRead]: ResponseRead[Key] } = {
    ...{ interim: this.#interim, head: undefined, framing: 'none', body: '', passed: '' },
    ...{ headEnd: 0, end: 0, ending: 'open' },
  };
  #unread: Buffer = Buffer.alloc(0);
  readonly #decoding = new BodyReader(TRAILER_OPTIONS);
  readonly #passing = new BodyReader(TRAILER_OPTIONS);

  constructor(method: string) {
    this.#method = method;
  }

  /** Bytes after the response. */
  get rest(): Buffer {
    return this.#unread;
  }

  receive(piece: Buffer): void {
    this.#unread = this.#unread.length === 0 ? piece : Buffer.concat([this.#unread, piece]);
    while (this.read.head === undefined && this.read.ending === 'open') {
      if (!this.#readHead()) return;
    }
    if (this.read.ending === 'open') this.#readBody();
  }

  #readHead(): boolean {
    const { read } = this;
    const parsed = parser.parse(this.#unread, 0, this.#unread.length);
    if (parsed === undefined) return false;
    if ('reason' in parsed || isFalseSwitch(parsed.head)) {
      read.ending = 'refused';
      return false;
    }
    const { head, end } = parsed;
    this.#take(end);
    if (head.statusCode < 200 && head.statusCode !== 101) {
      this.#interim.push(head);
      return true;
    }
    read.head = head;
    read.headEnd = read.end;
    if (head.statusCode === 101) {
      read.ending = 'switched';
      return false;
    }
    read.framing = framingOf(head, this.#method);
    for (const body of [this.#decoding, this.#passing])
      body.begin(read.framing, head.contentLength ?? 0);
    this.#decoding.decodes = true;
    return true;
  }

  #readBody(): void {
    const { read } = this;
    const bytes = this.#unread;
    const end = this.#decoding.read(
      bytes,
      0,
      bytes.length,
      sinkTo((text) => (read.body += text)),
    );
    const passedEnd = this.#passing.read(
      ...([bytes, 0, bytes.length] as const),
      sinkTo((text) => (read.passed += text)),
    );
    if (end !== passedEnd) throw new Error('a body ends elsewhere when it is decoded');
    if (end === BROKEN_BODY) {
      // How much of it was passed on depends on the packets.
      Object.assign(read, { ending: 'broken body', body: '', passed: '', end: read.headEnd });
      return;
    }
    this.#take(end);
    if (this.#passing.isComplete) read.ending = 'complete';
  }

  #take(length: number): void {
    this.#unread = this.#unread.subarray(length);
    this.read.end += length;
  }
}

/** A second implementation of RFC 9112 §6.3. */
function framingOf(head: ParsedResponseHead, method: string): Framing {
  if (method === 'HEAD' || head.statusCode === 204 || head.statusCode === 304) return 'none';
  if (head.isChunked) return 'chunked';
  return head.contentLength === undefined ? 'until-close' : 'length';
}

function isFalseSwitch({ statusCode, upgrade }: ParsedResponseHead): boolean {
  return statusCode === 101 && upgrade === undefined;
}
