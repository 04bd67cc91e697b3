/**
 * Reads the bytes of a client with the parsers of the engine: the accepted requests, and the ending. It
 * reads as a connection does, but parses every packet immediately.
 */
import { RequestParser } from '../../../src/http/request-parser.ts';
import { BodyReader, BROKEN_BODY, type BodySink } from '../../../src/http/body-reader.ts';
import { type ParsedRequestHead } from '../../../src/http/request-head.ts';

const PARSER_OPTIONS = {
  headBytes: 65_536,
  fields: 500,
  targetBytes: 32_768,
  protectedNames: new Set(['mcp-session-id']),
};
export const TRAILER_OPTIONS = {
  maxBytes: 65_536,
  maxFields: 500,
  forbidden: new Set(['mcp-session-id']),
};

/** An accepted request. Positions refer to all bytes. */
export interface ReadRequest {
  readonly head: ParsedRequestHead;
  readonly headEnd: number;
  /** The decoded body. */
  body: string;
  /** The body as it is passed on. */
  passed: string;
  /** The position after its last received byte. */
  end: number;
  isComplete: boolean;
}

export interface RequestsRead {
  readonly requests: readonly ReadRequest[];
  /** `open`: the input is complete so far, or may continue. */
  readonly ending: 'open' | 'refused' | 'broken body' | 'closed';
}

/** Shared by all runs, as it is shared by all connections of a listener. */
const parser = new RequestParser(PARSER_OPTIONS);

export function readRequests(pieces: readonly Buffer[]): RequestsRead {
  const reader = new RequestReader();
  for (const piece of pieces) reader.receive(piece);
  return { requests: reader.requests, ending: reader.ending };
}

export class RequestReader {
  readonly requests: ReadRequest[] = [];
  ending: RequestsRead['ending'] = 'open';
  /** Received bytes that belong to no request yet. */
  #unread: Buffer = Buffer.alloc(0);
  /** Their position in all bytes. */
  #at = 0;
  #current: ReadRequest | undefined;
  /** Both read every body: one of them decodes it. */
  readonly #decoding = new BodyReader(TRAILER_OPTIONS);
  readonly #passing = new BodyReader(TRAILER_OPTIONS);

  receive(piece: Buffer): void {
    this.#unread = this.#unread.length === 0 ? piece : Buffer.concat([this.#unread, piece]);
    while (this.ending === 'open' && this.#unread.length > 0) {
      const isDone = this.#current ? this.#readBody(this.#current) : this.#readHead();
      if (isDone) return;
    }
  }

  /** Whether more bytes are needed. */
  #readHead(): boolean {
    const parsed = parser.parse(this.#unread, 0, this.#unread.length);
    if (parsed === undefined) return true;
    if ('status' in parsed) {
      this.ending = 'refused';
      return true;
    }
    const { head, end } = parsed;
    this.#take(end);
    const { isChunked, contentLength = 0 } = head;
    const framing = isChunked ? 'chunked' : contentLength > 0 ? 'length' : 'none';
    for (const body of [this.#decoding, this.#passing]) body.begin(framing, contentLength);
    this.#decoding.decodes = isChunked;
    const request = {
      head,
      headEnd: this.#at,
      body: '',
      passed: '',
      end: this.#at,
      isComplete: false,
    };
    this.requests.push(request);
    if (this.#passing.isComplete) this.#complete(request);
    else this.#current = request;
    return false;
  }

  #readBody(request: ReadRequest): boolean {
    const bytes = this.#unread;
    const end = this.#decoding.read(
      bytes,
      0,
      bytes.length,
      sinkTo((text) => (request.body += text)),
    );
    const passedEnd = this.#passing.read(
      ...([bytes, 0, bytes.length] as const),
      sinkTo((text) => (request.passed += text)),
    );
    if (end !== passedEnd) throw new Error('a body ends elsewhere when it is decoded');
    if (end === BROKEN_BODY) {
      this.ending = 'broken body';
      // How much of it was passed on depends on the packets.
      Object.assign(request, { body: '', passed: '', end: request.headEnd });
      return true;
    }
    this.#take(end);
    request.end = this.#at;
    if (this.#passing.isComplete) this.#complete(request);
    return !this.#passing.isComplete;
  }

  #complete(request: ReadRequest): void {
    request.isComplete = true;
    this.#current = undefined;
    if (request.head.wantsClose) this.ending = 'closed';
  }

  #take(length: number): void {
    this.#unread = this.#unread.subarray(length);
    this.#at += length;
  }
}

export function sinkTo(add: (text: string) => void): BodySink {
  return { onBodyBytes: (bytes, start, end) => add(bytes.toString('latin1', start, end)) };
}
