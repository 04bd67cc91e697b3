/**
 * Pipes one request to an upstream and its response to the client, both at the same time, with backpressure
 * and aborts both ways. It knows no sessions: its owner decides what goes out, and when.
 *
 *   SENDING ─head─> HOLDING (the owner commits something) ─committed─> FLOWING ─both complete─> DONE
 *      │  └─────────────────────────────────────────────────────────────^ │ └─body was inspected
 *      │                                                                  │    and holds again
 *      └─ error ─> the owner responds, or sends it again                  └─ error ─> cut: DONE
 *      └─ 101 ─> TUNNEL
 */
import type { MalformedRequest } from './malformed-request.ts';
import type { BufferOwnership } from './socket.ts';
import { ChunkScanner } from './chunks.ts';
import { formatFields, outgoingFields } from './head-text.ts';
import { hasNoBody, type ParsedResponseHead } from './response-head.ts';
import type { IncomingRequestListener, IncomingRequest } from './incoming-request.ts';
import type { TunnelEnd } from './tunnel.ts';
import type {
  SerializedRequest,
  ResponseHandler,
  UpstreamRequest,
  UpstreamTunnel,
} from './upstream-request.ts';
import { UpstreamError, type UpstreamErrorCode } from './upstream-error.ts';
import type { UpstreamPool } from './upstream-pool.ts';

/** How the head of a response goes out. */
export interface OutgoingResponse {
  /** Undefined, or the very array of the head, if the fields are passed on as they came. */
  readonly rawHeaders: readonly string[] | undefined;
  /** Inspects the body on its way. */
  readonly inspector?: BodyFilter | undefined;
}

/** Inspects the beginning of a body, and may change it. */
export interface BodyFilter {
  /** Takes the next bytes, cut anywhere. Keeps no reference to them. */
  push(bytes: Uint8Array): FilteredBytes;
  /** The body has ended: what is still held goes out. */
  end(): FilteredBytes;
}

export interface FilteredBytes {
  /** What may go out, once `until` has resolved if it is set. */
  readonly out: Uint8Array | undefined;
  readonly until: Promise<void> | undefined;
  /** The rest of the body passes without inspection. */
  readonly isDone: boolean;
}

/** The caller that has the request served. It decides what depends on sessions. */
export interface PipeOwner {
  /** An interim head has come: the fields that are passed on, or undefined if the head is not. */
  onInterim(head: ParsedResponseHead): readonly string[] | undefined;
  /** The final head has come; a promise holds it back. Undefined: the owner responds itself. */
  onResponse(
    head: ParsedResponseHead,
  ): OutgoingResponse | Promise<OutgoingResponse | undefined> | undefined;
  /** The head goes out. `isStream`: its length is not known. */
  onResponseStarted(statusCode: number, isStream: boolean, head: ParsedResponseHead): void;
  /** As {@link onResponse}, for a switch of protocols. */
  onUpgradeResponse(
    head: ParsedResponseHead,
  ): OutgoingResponse | Promise<OutgoingResponse | undefined> | undefined;
  onTunnel(statusCode: number): void;
  /** No head has come: the client still needs a response. */
  onFailed(error: UpstreamError): void;
  /** The head is out and the rest will not come: the client's response was cut. */
  onResponseAborted(error: UpstreamError): void;
  /** The client's body is malformed, and no response has begun. */
  onMalformedBody(why: MalformedRequest): void;
  /** The client has disconnected. */
  onClientDisconnected(): void;
  /** The response is complete, or the tunnel is closed. */
  onFinished(): void;
  /**
   * An exception, possibly of the owner itself. The connections are being closed. Called more than once if
   * there are several.
   */
  onFault(error?: unknown): void;
}

type State = 'sending' | 'holding' | 'flowing' | 'tunnel' | 'done';

/** How the body goes out: as it came, in chunks of ours, or as it is until the connection closes. */
type BodyForm = 'as-it-came' | 'chunks' | 'plain';

const LAST_CHUNK = '0\r\n\r\n';
const NOTHING = Buffer.alloc(0);

/** Idempotent methods (RFC 9110 §9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set([
  ...['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'],
]);

export function isIdempotent(method: string): boolean {
  return IDEMPOTENT.has(method);
}

export class ResponsePipe implements ResponseHandler, IncomingRequestListener, TunnelEnd {
  readonly #incoming: IncomingRequest;
  readonly #owner: PipeOwner;
  readonly #pool: UpstreamPool;
  readonly #request: SerializedRequest;
  #state: State = 'sending';
  #call: UpstreamRequest | undefined;
  #form: BodyForm = 'as-it-came';
  #inspector: BodyFilter | undefined;
  /** Body bytes that came while the head, or what the inspector found, was held. */
  #held: Buffer[] | undefined;
  #hasEndedWhileHeld = false;
  /** They are chunks as they came: it was not known yet in which form they go out. */
  #isHeldFramed = false;
  /** What of the request's body the upstream has not taken yet. */
  #unsent: Buffer[] | undefined;
  #isUpstreamReady = false;
  #isResponseComplete = false;
  /** The upstream takes no more of the body: it is read and dropped. */
  #isBodyUnwanted = false;
  #mayTryAgain = true;
  /** Nothing of the body was written or dropped. */
  #isBodyWhole = true;
  /** A first try may have reached the upstream. */
  #mayHaveArrived = false;
  #upstream: UpstreamTunnel | undefined;
  /** The client's end of the tunnel. */
  #client: TunnelEnd | undefined;

  constructor(
    incoming: IncomingRequest,
    pool: UpstreamPool,
    request: SerializedRequest,
    owner: PipeOwner,
  ) {
    this.#incoming = incoming;
    this.#pool = pool;
    this.#request = request;
    this.#owner = owner;
  }

  /** Begins, and listens to the request from now on. */
  start(): void {
    this.#incoming.listen(this);
    this.#incoming.writeContinue();
    this.#send(false);
  }

  /** The response is not needed any more. Calls nothing of the owner. */
  abort(): void {
    this.#state = 'done';
    this.#held = undefined;
    this.#unsent = undefined;
    this.#call?.abort();
    this.#upstream?.closeTunnel(false);
  }

  /**
   * After a failure before a byte was sent: what was read of the body so far, for another upstream.
   * Undefined if some of it is lost.
   */
  takeBody(): Buffer | undefined {
    if (!this.#isBodyWhole || this.#mayHaveArrived) return undefined;
    const { body } = this.#request;
    const unsent = this.#unsent ?? [];
    this.#unsent = undefined;
    return Buffer.concat(body ? [body, ...unsent] : unsent);
  }

  /**
   * Ends a response or a tunnel in flight on both sides, never as if it were complete. The owner gets no
   * call.
   */
  abortBoth(): void {
    const client = this.#client;
    this.abort();
    if (client) client.closeTunnel(false);
    else {
      this.#incoming.flush();
      this.#incoming.cut();
    }
  }

  /** Ends the call as if the upstream had failed. */
  fail(code: UpstreamErrorCode, message: string): void {
    if (this.#state !== 'sending') return;
    const wasNotSent = this.#call?.wasSent !== true;
    this.#call?.abort();
    this.onError(new UpstreamError(code, message, { wasNotSent }));
  }

  #send(isFresh: boolean): void {
    this.#isUpstreamReady = false;
    this.#isBodyUnwanted = false;
    const call = this.#pool.send(this.#request, this, isFresh);
    this.#call = call;
    if (call.wasSent && call.wasWritable) this.#isUpstreamReady = true;
    if (!this.#request.isComplete && !this.#incoming.isReadingBody) {
      this.#incoming.readBody();
    }
    this.#updateBodyFlow();
  }

  // From the client

  onRequestBody(bytes: Buffer): void {
    if (this.#isBodyUnwanted) {
      // Dropped bytes can't be sent a second time.
      this.#mayTryAgain = false;
      this.#isBodyWhole = false;
      return;
    }
    if (!this.#isUpstreamReady || this.#unsent !== undefined) {
      (this.#unsent ??= []).push(bytes);
      this.#incoming.pauseBody();
      return;
    }
    if (!this.#writeBody(bytes)) {
      this.#isUpstreamReady = false;
      this.#incoming.pauseBody();
    }
  }

  /** Written bytes are not kept, so they can't be sent again. */
  #writeBody(bytes: Buffer): boolean {
    this.#mayTryAgain = false;
    this.#isBodyWhole = false;
    return this.#call?.write(bytes) ?? true;
  }

  onRequestEnd(): void {
    if (this.#unsent === undefined) this.#endBody();
  }

  #endBody(): void {
    this.#call?.endBody();
    if (this.#isResponseComplete) this.#finish();
  }

  onMalformedBody(why: MalformedRequest): void {
    this.abort();
    this.#owner.onMalformedBody(why);
  }

  onClientWritable(): void {
    if (this.#state === 'flowing' && !this.#inspectorHolds) this.#call?.resume();
  }

  get #inspectorHolds(): boolean {
    return this.#held !== undefined;
  }

  onClientDisconnected(): void {
    const isOver = this.#state === 'done';
    const hasResponse = this.#isResponseComplete;
    this.abort();
    if (isOver) return;
    // The client has its whole response. Only the rest of its own body is missing.
    if (hasResponse) this.#owner.onFinished();
    else this.#owner.onClientDisconnected();
  }

  // From the upstream

  onUpstreamWritable(): void {
    this.#isUpstreamReady = true;
    this.#updateBodyFlow();
  }

  #updateBodyFlow(): void {
    if (this.#request.isComplete || !this.#isUpstreamReady) return;
    const unsent = this.#unsent;
    this.#unsent = undefined;
    for (const bytes of unsent ?? []) {
      if (!this.#writeBody(bytes)) this.#isUpstreamReady = false;
    }
    if (unsent && this.#incoming.isBodyComplete) this.#endBody();
    else if (this.#isUpstreamReady) this.#incoming.resumeBody();
  }

  onInterim(head: ParsedResponseHead): void {
    if (this.#state !== 'sending') return;
    // A client that waits for it has its 100 (Continue) already.
    if (head.statusCode === 100) return;
    const line = head.statusLine;
    const fields = this.#owner.onInterim(head);
    if (fields) this.#incoming.writeInterim(`HTTP/1.1${line}${formatFields(fields)}\r\n`);
  }

  onHead(head: ParsedResponseHead): void {
    this.#mayTryAgain = false;
    const passage = this.#owner.onResponse(head);
    if (passage === undefined) {
      this.abort();
    } else if (passage instanceof Promise) {
      this.#hold();
      this.#isHeldFramed = head.isChunked;
      this.#release(passage, (released) => {
        if (released) this.#flow(head, released);
        else this.abort();
      });
    } else this.#flow(head, passage);
  }

  #hold(): void {
    if (this.#state === 'sending') this.#state = 'holding';
    this.#held = [];
    this.#call?.pause();
  }

  /** Continues once the promise has resolved, unless the request has ended. */
  #release<Value>(until: Promise<Value>, goOn: (value: Value) => void): void {
    until
      .then((value) => {
        if (this.#state === 'done') return;
        const held = this.#held ?? [];
        this.#held = undefined;
        goOn(value);
        this.#deliverHeld(held);
      })
      .catch((error: unknown) => {
        this.#owner.onFault(error);
        this.onFault();
      });
  }

  /** Delivers what came meanwhile. The inspector may hold again. */
  #deliverHeld(held: readonly Buffer[]): void {
    const isToDecode = this.#isHeldFramed && this.#form !== 'as-it-came';
    this.#isHeldFramed = false;
    for (const bytes of isToDecode ? dataOf(held) : held)
      this.onResponseBody(bytes, 0, bytes.length, 'kept');
    if (this.#inspectorHolds) return;
    if (this.#hasEndedWhileHeld) {
      this.#hasEndedWhileHeld = false;
      this.onResponseEnd();
    } else {
      this.#incoming.flush();
      this.#call?.resume();
    }
  }

  #flow(head: ParsedResponseHead, { rawHeaders, inspector }: OutgoingResponse): void {
    const incoming = this.#incoming;
    const { statusCode } = head;
    const isBodiless = hasNoBody(incoming.head.method, statusCode);
    const hasLength =
      head.contentLength !== undefined &&
      (rawHeaders === undefined || hasField(rawHeaders, 'content-length'));
    const isStream = !isBodiless && !hasLength;
    this.#state = 'flowing';
    this.#inspector = isBodiless ? undefined : inspector;
    this.#form = formOf(head, { isStream, isOld: incoming.head.minorVersion === 0, inspector });
    if (this.#form !== 'as-it-came' && head.isChunked) this.#call?.decodeBody();
    const isUntilClose = isStream && this.#form === 'plain';
    const isChunked = isBodiless
      ? head.isChunked && statusCode !== 204 && incoming.head.minorVersion === 1
      : isStream && !isUntilClose;
    const fields = fieldsOf(head, rawHeaders, isChunked && !isBodiless);
    const framing = isChunked ? 'Transfer-Encoding: chunked\r\n' : '';
    const line = head.statusLine;
    this.#owner.onResponseStarted(statusCode, isStream, head);
    if (!head.isPersistent) incoming.endBodyEarly();
    incoming.writeHead(`HTTP/1.1${line}${fields}${framing}`, isStream, isUntilClose);
  }

  onResponseBody(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean {
    if (this.#state === 'done') return true;
    if (this.#held !== undefined) {
      this.#held.push(Buffer.from(bytes.subarray(start, end)));
      return false;
    }
    if (this.#inspector !== undefined)
      return this.#inspect(this.#inspector, bytes.subarray(start, end));
    return this.#write(bytes, start, end, ownership);
  }

  #write(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean {
    if (this.#form !== 'chunks') return this.#incoming.write(bytes, start, end, ownership);
    if (end === start) return true;
    this.#incoming.writeText(`${(end - start).toString(16)}\r\n`);
    // The line end behind it follows at once, so no 'drain' would report that a lent buffer is free.
    const mayGoOn = this.#incoming.write(
      bytes,
      start,
      end,
      ownership === 'lent' ? 'shared' : ownership,
    );
    this.#incoming.writeText('\r\n');
    return mayGoOn;
  }

  #inspect(inspector: BodyFilter, bytes: Uint8Array): boolean {
    return this.#passInspected(inspector.push(bytes));
  }

  #passInspected({ out, until, isDone }: FilteredBytes): boolean {
    if (isDone) this.#inspector = undefined;
    const bytes = out === undefined ? NOTHING : asBuffer(out);
    if (until === undefined)
      return bytes.length === 0 || this.#write(bytes, 0, bytes.length, 'shared');
    // It outlives the call, and the memory of the read does not.
    const kept = Buffer.from(bytes);
    this.#hold();
    this.#release(until, () => void this.#write(kept, 0, kept.length, 'kept'));
    return false;
  }

  onResponseEnd(): void {
    if (this.#state === 'done') return;
    if (this.#held !== undefined) {
      this.#hasEndedWhileHeld = true;
      return;
    }
    const rest = this.#inspector?.end();
    this.#inspector = undefined;
    if (rest) {
      this.#passInspected({ ...rest, isDone: true });
      if (this.#inspectorHolds) {
        this.#hasEndedWhileHeld = true;
        return;
      }
    }
    this.#isResponseComplete = true;
    if (this.#form === 'chunks') this.#incoming.writeText(LAST_CHUNK);
    const isBodyOver = this.#incoming.isBodyComplete && this.#unsent === undefined;
    if (isBodyOver || this.#isBodyUnwanted || this.#call?.isUpstreamGone === true) this.#finish();
    else this.#incoming.awaitBody();
  }

  #finish(): void {
    this.#state = 'done';
    this.#unsent = undefined;
    this.#incoming.end();
    this.#owner.onFinished();
  }

  onReadDone(): void {
    if (this.#state === 'flowing' && !this.#inspectorHolds) this.#incoming.flush();
  }

  onBodyUnwanted(): void {
    this.#isBodyUnwanted = true;
    this.#unsent = undefined;
    this.#incoming.resumeBody();
    if (this.#isResponseComplete && this.#state !== 'done') this.#finish();
  }

  onError(error: UpstreamError): void {
    if (this.#state === 'done') return;
    if (this.#state === 'sending' || this.#state === 'holding') {
      if (this.#triesAgain(error)) return;
      this.#state = 'done';
      this.#held = undefined;
      this.#owner.onFailed(error);
      this.#unsent = undefined;
      return;
    }
    this.#state = 'done';
    // The response must not end as if it were complete (RFC 9112 §8).
    this.#incoming.flush();
    this.#incoming.cut();
    this.#owner.onResponseAborted(error);
  }

  /**
   * Once: if nothing was written, or if the method is idempotent and the server was just closing an idle
   * connection.
   */
  #triesAgain(error: UpstreamError): boolean {
    if (!this.#mayTryAgain || this.#state !== 'sending' || error.code !== 'connection-lost')
      return false;
    const isHarmless = error.wasReused && isIdempotent(this.#request.method);
    if (!error.wasNotSent && !isHarmless) return false;
    this.#mayTryAgain = false;
    this.#mayHaveArrived ||= !error.wasNotSent;
    this.#send(true);
    return true;
  }

  onFault(): void {
    this.abort();
    this.#incoming.destroy();
    this.#owner.onFault();
  }

  // Switching protocols

  onUpgrade(head: ParsedResponseHead, upstream: UpstreamTunnel, rest: Buffer): void {
    this.#upstream = upstream;
    this.#mayTryAgain = false;
    const passage = this.#owner.onUpgradeResponse(head);
    if (passage instanceof Promise) {
      this.#state = 'holding';
      this.#release(passage, (released) => {
        if (released) this.#openTunnel(head, released, upstream, rest);
        else this.abort();
      });
    } else if (passage) this.#openTunnel(head, passage, upstream, rest);
    else this.abort();
  }

  #openTunnel(
    head: ParsedResponseHead,
    { rawHeaders }: OutgoingResponse,
    upstream: UpstreamTunnel,
    rest: Buffer,
  ): void {
    const fields = outgoingFields(head, rawHeaders);
    const line = head.statusLine;
    const upgrade = `Connection: Upgrade\r\nUpgrade: ${head.upgrade ?? ''}\r\n`;
    this.#state = 'tunnel';
    this.#owner.onTunnel(head.statusCode);
    const client = this.#incoming.openTunnel(`HTTP/1.1${line}${fields}${upgrade}\r\n`, this);
    if (!client) {
      this.closeTunnel(false);
      return;
    }
    this.#client = client;
    if (rest.length > 0) client.write(rest, 0, rest.length, 'kept');
    upstream.join(client);
  }

  // As the end of the tunnel that the client's connection writes to

  write(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean {
    return this.#upstream?.write(bytes, start, end, ownership) ?? true;
  }

  resume(): void {
    this.#upstream?.resume();
  }

  end(): void {
    this.#upstream?.end();
  }

  /** The client's connection is closed. */
  closeTunnel(resets: boolean): void {
    if (this.#state !== 'tunnel') return;
    this.#state = 'done';
    this.#upstream?.closeTunnel(resets);
    this.#owner.onFinished();
  }
}

function formOf(
  head: ParsedResponseHead,
  client: { isStream: boolean; isOld: boolean; inspector: BodyFilter | undefined },
): BodyForm {
  if (!client.isStream) return 'as-it-came';
  // HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
  if (client.isOld) return 'plain';
  return head.isChunked && client.inspector === undefined ? 'as-it-came' : 'chunks';
}

/** Only chunks have trailers, so nothing else announces them. */
function fieldsOf(
  head: ParsedResponseHead,
  rawHeaders: readonly string[] | undefined,
  mayHaveTrailers: boolean,
): string {
  if (!head.announcesTrailers || mayHaveTrailers) {
    return outgoingFields(head, rawHeaders);
  }
  const fields = rawHeaders ?? head.rawHeaders;
  return formatFields(fields.filter((_, i) => !isTrailer(fields[i - (i % 2)])));
}

function isTrailer(name: string | undefined): boolean {
  return name?.toLowerCase() === 'trailer';
}

/** The data of chunks, from the first one on. */
function dataOf(chunks: readonly Buffer[]): Buffer[] {
  const scanner = new ChunkScanner();
  const data: Buffer[] = [];
  for (const bytes of chunks) {
    if (scanner.isDone || scanner.isInTrailers) break;
    scanner.scan(bytes, 0, bytes.length, (start, end) => data.push(bytes.subarray(start, end)));
  }
  return data;
}

function hasField(rawHeaders: readonly string[], lowerName: string): boolean {
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i];
    if (name?.length === lowerName.length && name.toLowerCase() === lowerName) return true;
  }
  return false;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
