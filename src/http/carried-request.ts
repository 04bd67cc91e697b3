/**
 * The request that a connection to an upstream carries, and its response: both at the same time. One for each
 * connection, used again with each request.
 *
 *   NONE ─begin─> RESPONDING ─response and request are complete─> NONE: the connection is free or closed
 *    ^                │ └─response is complete─> SENDING ─request is complete─> NONE
 *    └─failed, ended, aborted, or the upstream has switched protocols─┘
 */
import type { BufferAccount } from './buffers.ts';
import { FAILED_WRITE_MS } from './limits.ts';
import {
  ResponseReader,
  type ResponseReaderOptions,
  type SwitchOfProtocols,
} from './response-reader.ts';
import { writeBytes, type UpstreamSocket } from './socket.ts';
import { isAskedFor } from './tunnel.ts';
import type { Sweep } from './sweep.ts';
import {
  UpstreamError,
  type UpstreamErrorCode,
  type RequestCarrier,
  type SerializedRequest,
  type UpstreamRequest,
  type UpstreamTunnel,
} from './upstream-request.ts';

/** What becomes of the connection. */
export interface CarryingConnection {
  readonly socket: UpstreamSocket;
  readonly account: BufferAccount;
  /** Request and response are complete, and another request may follow. */
  onFree(): void;
  /** It was lost before a byte of the response, after it had carried another request. */
  onLost(): void;
  destroy(): void;
  /** It belongs to the tunnel from now on. */
  openTunnel(): UpstreamTunnel;
}

export interface CarriedRequestOptions extends ResponseReaderOptions {
  readonly sweep: Sweep;
  /** 0: for ever. */
  readonly headTimeoutMs: number;
}

type Phase = 'none' | 'responding' | 'sending';

export class CarriedRequest implements RequestCarrier {
  readonly response: ResponseReader;
  readonly #connection: CarryingConnection;
  readonly #options: CarriedRequestOptions;
  #call: UpstreamRequest | undefined;
  #phase: Phase = 'none';
  #isFirst = false;
  /** When the response began to be waited for, in ms of the sweep. */
  #since = 0;
  #hasUpstreamEnded = false;
  #hasFailedWrite = false;

  constructor(connection: CarryingConnection, options: CarriedRequestOptions) {
    this.#connection = connection;
    this.#options = options;
    this.response = new ResponseReader(connection.socket, options);
  }

  get call(): UpstreamRequest | undefined {
    return this.#call;
  }

  begin(call: UpstreamRequest, isFirst: boolean): void {
    this.#call = call;
    this.#phase = 'responding';
    this.#isFirst = isFirst;
    this.#restartWait();
    call.connection = this;
    this.response.begin(call);
  }

  #restartWait(): void {
    this.#since = this.#options.sweep.nowMs;
  }

  // The request

  /** Unless the connection was closed in between. */
  send(): void {
    const call = this.#call;
    if (!call || call.wasSent || this.#connection.socket.destroyed) return;
    call.wasSent = true;
    call.wasWritable = this.#write(call.request);
    this.#updateAccount();
  }

  /** As {@link send}, but after the call that began the request has returned: a failure goes to the receiver. */
  sendLate(): void {
    const call = this.#call;
    this.#restartWait();
    this.send();
    if (call?.wasWritable === true) call.sink.onUpstreamWritable();
  }

  #write({ head, body }: SerializedRequest): boolean {
    const { socket } = this.#connection;
    if (body !== undefined) return writeBytes(socket, head, body, 0, body.length, 'kept');
    return socket.write(head, 'latin1') || socket.writableLength === 0;
  }

  writeBody(bytes: Buffer): boolean {
    const { socket } = this.#connection;
    if (this.#hasFailedWrite || socket.destroyed) return true;
    this.#restartWait();
    const mayGoOn = writeBytes(socket, '', bytes, 0, bytes.length, 'kept');
    if (!mayGoOn) this.#updateAccount();
    return mayGoOn;
  }

  /** A response that waited for the end of the request's body frees the connection. */
  bodySent(): void {
    this.#restartWait();
    if (this.#phase === 'sending') this.#free();
  }

  onWritable(): void {
    this.#restartWait();
    if (this.#call?.wasSent === true) this.#call.sink.onUpstreamWritable();
  }

  /** Whether a response may still be read. */
  get mayReceive(): boolean {
    return this.#phase === 'responding';
  }

  onWriteFailed(): void {
    if (this.#hasFailedWrite) return;
    this.#hasFailedWrite = true;
    this.#restartWait();
    this.#call?.sink.onBodyUnwanted();
  }

  #updateAccount(): void {
    const { account, socket } = this.#connection;
    account.set(socket.writableLength);
  }

  // The response

  read(bytes: Buffer, length: number): void {
    if (this.#phase === 'sending') this.#dropBody();
    else if (this.#call?.wasSent === true) this.#readResponse(bytes, length);
    else this.fail('connection-lost', 'the upstream responded before a request was sent');
  }

  #readResponse(bytes: Buffer, length: number): void {
    const outcome = this.response.read(bytes, length);
    if (outcome === 'complete') this.#endResponse();
    else if (typeof outcome === 'object') {
      if ('reason' in outcome) this.fail('malformed-response', outcome.reason);
      else this.#switchProtocols(outcome);
    }
    this.#call?.sink.onReadDone();
  }

  onReadEnd(): void {
    this.#hasUpstreamEnded = true;
    if (this.response.endsByClose) this.#endResponse();
    else if (this.response.isInBody) {
      this.fail('connection-lost', 'the upstream closed during its response');
    } else this.fail('connection-lost', 'the upstream closed before its response');
  }

  pause(): void {
    this.#connection.socket.pauseReads();
  }

  resume(): void {
    this.#connection.socket.resumeReads();
  }

  decodeBody(): void {
    this.response.decodeBody();
  }

  keepFraming(): void {
    this.response.keepFraming();
  }

  #switchProtocols({ head, rest }: SwitchOfProtocols): void {
    const call = this.#call;
    if (!call?.isBodySent || !isAskedFor(head.upgrade, call.request.upgrade)) {
      this.fail('malformed-response', 'the upstream switched protocols unasked');
      return;
    }
    call.forgetRequest();
    this.#detach();
    const tunnel = this.#connection.openTunnel();
    call.sink.onUpgrade(head, tunnel, rest.length > 0 ? Buffer.from(rest) : rest);
  }

  #endResponse(): void {
    const call = this.#call;
    if (!call) return;
    // The client's socket may still write from this buffer.
    this.response.buffer.giveBack(this.#connection.socket.isReadPaused);
    const isBroken = this.#hasUpstreamEnded || this.#hasFailedWrite || !call.wasSent;
    if (isBroken || !this.response.isPersistent) {
      this.abort();
      call.isUpstreamGone = true;
    } else if (call.isBodySent) this.#free();
    else this.#phase = 'sending';
    call.sink.onResponseEnd();
  }

  // Ends

  #free(): void {
    this.#detach();
    this.#connection.onFree();
  }

  abort(): void {
    this.#detach();
    this.#connection.destroy();
  }

  /** The response is complete, and the upstream reads no more of the request. */
  #dropBody(): void {
    const call = this.#detach();
    this.#connection.destroy();
    call?.sink.onBodyUnwanted();
  }

  /** Closes the connection in any case. */
  fail(code: UpstreamErrorCode, message: string, cause?: Error): void {
    if (this.#phase === 'sending') {
      this.#dropBody();
      return;
    }
    const call = this.#detach();
    this.#connection.destroy();
    if (!call) return;
    const { hasReceived } = this.response;
    const wasReused = !this.#isFirst && !hasReceived;
    if (code === 'connection-lost' && wasReused) this.#connection.onLost();
    const text = cause && 'code' in cause ? `${message}: ${String(cause.code)}` : message;
    const details = { wasNotSent: !call.wasSent, wasReused, hasReceivedBytes: hasReceived, cause };
    call.sink.onError(new UpstreamError(code, text, details));
  }

  #detach(): UpstreamRequest | undefined {
    const call = this.#call;
    this.#call = undefined;
    this.#phase = 'none';
    this.response.stop();
    if (call) call.connection = undefined;
    return call;
  }

  endOverdue(nowMs: number): void {
    if (this.#phase !== 'responding' || this.response.isInBody) return;
    const { headTimeoutMs } = this.#options;
    const waitedMs = nowMs - this.#since;
    if (this.#hasFailedWrite && waitedMs >= FAILED_WRITE_MS) {
      this.fail('connection-lost', 'the upstream closed before its response');
    } else if (headTimeoutMs > 0 && waitedMs >= headTimeoutMs && this.#isUpstreamsTurn) {
      this.fail('head-timeout', 'no response came in time');
    }
  }

  /** The request is sent, or the upstream does not read the rest of it. */
  get #isUpstreamsTurn(): boolean {
    return this.#call?.isBodySent === true || this.#connection.socket.writableLength > 0;
  }
}
