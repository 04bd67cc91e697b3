/**
 * Reads the responses that come on one connection to an upstream, one for each request, and passes them to
 * the receiver of that request. What becomes of the connection is decided by its owner.
 *
 *   begin ─> HEAD ─1xx─> HEAD ─> BODY (length | chunked | until close | none) ─> complete
 *             └─101─> switched
 */
import type { TrailerOptions } from './chunks.ts';
import { BodyReader, BROKEN_BODY, type BodySink } from './body-reader.ts';
import { ConnectionBuffer, type ReadBuffers, UnparsedBytes } from './buffers.ts';
import { LF } from './head-text.ts';
import { MAX_INTERIM_RESPONSES } from './limits.ts';
import { framingOf, type ParsedResponseHead } from './response-head.ts';
import type { MalformedResponse, ResponseParser } from './response-parser.ts';
import type { UpstreamSocket } from './socket.ts';
import type { UpstreamRequest } from './upstream-request.ts';

export interface ResponseReaderOptions {
  readonly parser: ResponseParser;
  readonly buffers: ReadBuffers;
  readonly trailers: TrailerOptions;
}

/** The head of a 101. `rest` came behind it, and is valid during the read only. */
export interface SwitchOfProtocols {
  readonly head: ParsedResponseHead;
  readonly rest: Buffer;
}

type ResponseProgress = 'incomplete' | 'complete' | SwitchOfProtocols | MalformedResponse;

const BROKEN: MalformedResponse = { reason: 'the body is not framed as its head says' };
const TOO_MANY_INTERIM: MalformedResponse = { reason: 'too many interim responses' };

export class ResponseReader implements BodySink {
  readonly buffer: ConnectionBuffer;
  /** Bytes of the response to the last request have come. */
  hasReceived = false;
  /** The response that has come last allows another request. */
  isPersistent = false;
  /** The value of its `Keep-Alive`. */
  keepAlive: string | undefined;
  readonly #parser: ResponseParser;
  readonly #body: BodyReader;
  readonly #socket: Pick<UpstreamSocket, 'pauseAfterRead'>;
  /** The beginning of a head that has not come whole. */
  readonly #partial = new UnparsedBytes();
  #call: UpstreamRequest | undefined;
  #isInBody = false;
  #interimCount = 0;

  constructor(socket: Pick<UpstreamSocket, 'pauseAfterRead'>, options: ResponseReaderOptions) {
    this.#socket = socket;
    this.#parser = options.parser;
    this.#body = new BodyReader(options.trailers);
    this.buffer = new ConnectionBuffer(options.buffers);
  }

  /** The head has come, and the end of the body has not. */
  get isInBody(): boolean {
    return this.#isInBody;
  }

  /** The response lasts until the upstream closes. */
  get endsByClose(): boolean {
    return this.#isInBody && this.#body.framing === 'until-close';
  }

  /** The next response belongs to this request. */
  begin(call: UpstreamRequest): void {
    this.#call = call;
    this.#isInBody = false;
    this.#interimCount = 0;
    this.hasReceived = false;
  }

  /** Passes nothing on any more, also if the receiver calls this from within a read. */
  stop(): void {
    this.#call = undefined;
    this.#isInBody = false;
  }

  /** Delivers chunks without their framing from now on. */
  decodeBody(): void {
    this.#body.decodes = true;
  }

  /** Delivers chunks with their framing again, from the next bytes on. */
  keepFraming(): void {
    this.#body.keepFraming();
  }

  read(bytes: Buffer, length: number): ResponseProgress {
    if (this.#isInBody) return this.#readBody(bytes, 0, length);
    this.hasReceived = true;
    if (this.#partial.isEmpty) return this.#parseHeads(bytes, length);
    const added = bytes.subarray(0, length);
    const all = this.#partial.appendCopy(added);
    // A head is parsed when a line of it has ended, and not with every byte that it comes in.
    if (!added.includes(LF) && all.length <= this.#parser.headBytes) return 'incomplete';
    this.#partial.drop();
    return this.#parseHeads(all, all.length);
  }

  #parseHeads(bytes: Buffer, end: number): ResponseProgress {
    let at = 0;
    while (at < end) {
      const parsed = this.#parser.parse(bytes, at, end);
      if (parsed === undefined) {
        this.#partial.appendCopy(bytes.subarray(at, end));
        return 'incomplete';
      }
      if ('reason' in parsed) return parsed;
      at = parsed.end;
      const { head } = parsed;
      if (head.statusCode === 101) return { head, rest: bytes.subarray(at, end) };
      if (head.statusCode >= 200) {
        this.#startBody(head);
        return this.#readBody(bytes, at, end);
      }
      this.#interimCount += 1;
      if (this.#interimCount > MAX_INTERIM_RESPONSES) return TOO_MANY_INTERIM;
      this.#call?.sink.onInterim(head);
    }
    return 'incomplete';
  }

  #startBody(head: ParsedResponseHead): void {
    const call = this.#call;
    if (!call) return;
    call.forgetRequest();
    const framing = framingOf(head, call.request.method);
    this.#isInBody = true;
    this.#body.begin(framing, head.contentLength ?? 0);
    // An app that has not switched may still have stopped to speak HTTP.
    this.isPersistent =
      head.isPersistent && framing !== 'until-close' && call.request.upgrade === undefined;
    this.keepAlive = head.keepAlive;
    call.sink.onHead(head);
  }

  #readBody(bytes: Buffer, from: number, end: number): ResponseProgress {
    // The receiver of the head may have ended the call.
    if (!this.#isInBody) return 'incomplete';
    const body = this.#body;
    const bodyEnd = body.read(bytes, from, end, this);
    if (bodyEnd === BROKEN_BODY) return BROKEN;
    if (!body.isComplete) {
      if (from === 0) this.buffer.adaptTo(end);
      return 'incomplete';
    }
    // A response to nothing must not be taken for the next request's (RFC 9112 §9.3).
    if (bodyEnd < end) this.isPersistent = false;
    this.#isInBody = false;
    return 'complete';
  }

  onFramingKept(dataLeft: number): void {
    this.#call?.sink.onFramingKept?.(dataLeft);
  }

  onBodyBytes(bytes: Buffer, start: number, end: number): void {
    const sink = this.#call?.sink;
    if (!sink) return;
    const mayGoOn = sink.onResponseBody(bytes, start, end, this.buffer.ownershipOf(bytes));
    if (!mayGoOn) this.#socket.pauseAfterRead();
  }
}
