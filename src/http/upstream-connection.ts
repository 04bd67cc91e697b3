/**
 * A connection to an upstream. It carries one request at a time, and is reused only if the last one ended
 * cleanly.
 *
 *   CONNECTING ─> HEAD ─1xx─> HEAD ─> BODY (length | chunked | until close | none) ─end─> IDLE
 *                  │            └101─> TUNNEL     └end, request not out yet─> SENDING ─out─^ │
 *                  │                                                HEAD <─assigned──────────┘
 *                  └─ error, end, abort, unrequested bytes: from any ─> CLOSED
 *
 * It goes to IDLE only if the response allows it, the request was sent whole and no bytes are left.
 */
import type { ResponseParser } from './response-parser.ts';
import {
  resetSocket,
  writeBytes,
  type BufferOwnership,
  UpstreamSocket,
  type SocketOwner,
} from './socket.ts';
import type { BufferAccount, BufferBudget, ReadBuffers } from './buffers.ts';
import { BodyReader, BROKEN_BODY, type BodySink } from './body-reader.ts';
import { LF } from './characters.ts';
import { FAILED_WRITE_MS, MAX_INTERIM_RESPONSES, UNWRITTEN_REST_MS } from './limits.ts';
import { framingOf, type ParsedResponseHead } from './response-head.ts';
import type { Sweep, Sweepable } from './sweep.ts';
import type { TrailerOptions } from './trailers.ts';
import type { TunnelEnd } from './tunnel.ts';
import { UpstreamError, type UpstreamErrorCode } from './upstream-error.ts';

/** A request as it goes out. */
export interface SerializedRequest {
  readonly method: string;
  /** The whole head. It and `body` are forgotten with the response's head: a stream may be long. */
  head: string;
  /** The part of the body that has arrived already, framed. */
  body: Buffer | undefined;
  /** No more of the body follows. */
  readonly isComplete: boolean;
  /** The protocols that the head asks for, as a list. */
  readonly upgrade: string | undefined;
}

/**
 * The receiver of one response. The order of calls: `onInterim` (0 or more), `onHead`, `onResponseBody`
 * (0 or more), `onResponseEnd`. A switch of protocols calls `onUpgrade` in place of `onHead` and what
 * follows it. `onError` may come at any point and is the last call. `onReadDone` follows each read in
 * which one of the first four was called.
 */
export interface ResponseHandler {
  /** 1xx, but not 101. */
  onInterim(head: ParsedResponseHead): void;
  onHead(head: ParsedResponseHead): void;
  /** Bytes of the body, framed as they came unless the call decodes. Whether more may come. */
  onResponseBody(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean;
  onResponseEnd(): void;
  onReadDone(): void;
  /** The upstream has switched protocols: it is one end of a tunnel now. `rest` came behind the head. */
  onUpgrade(head: ParsedResponseHead, tunnel: UpstreamTunnel, rest: Buffer): void;
  /** The upstream takes the request's body, or more of it. */
  onUpstreamWritable(): void;
  /** The upstream takes no more of the body, though a response may still come. */
  onBodyUnwanted(): void;
  onError(error: UpstreamError): void;
  /** An exception: everything that belongs to the request ends. */
  onFault(): void;
}

/** The upstream's side of a tunnel, before it is joined. */
export interface UpstreamTunnel extends TunnelEnd {
  /** Joins it with its other end. */
  join(client: TunnelEnd): void;
}

/** What the connections of one pool share. */
export interface PoolContext {
  readonly parser: ResponseParser;
  readonly buffers: ReadBuffers;
  readonly trailers: TrailerOptions;
  readonly budget: BufferBudget;
  readonly sweep: Sweep;
  readonly connectTimeoutMs: number;
  /** 0: for ever. */
  readonly headTimeoutMs: number;
  /** The address, looked up for each new connection; undefined while it is unknown. */
  readonly address: () => { readonly host: string; readonly port: number } | undefined;
  /** Dialling has ended by itself. */
  readonly onDialled: (outcome: 'connected' | 'failed') => void;
  readonly onFault: (error: unknown) => void;
}

export interface ConnectionPool {
  /** It may carry another request. */
  onFree(connection: UpstreamConnection): void;
  /** It was lost during a request after it had served another: others may be lost too. */
  onLost(): void;
  onClosed(connection: UpstreamConnection): void;
}

type State = 'connecting' | 'idle' | 'head' | 'body' | 'sending' | 'tunnel' | 'closed';

export class UpstreamConnection implements SocketOwner, BodySink, Sweepable, UpstreamTunnel {
  sweepIndex = -1;
  /** When it became idle, and until when it may be used again, in ms. */
  idleSince = 0;
  idleUntil = 0;
  keepAlive: string | undefined;
  readonly #parts: PoolContext;
  readonly #pool: ConnectionPool;
  readonly #socket: UpstreamSocket;
  readonly #body: BodyReader;
  #account: BufferAccount | undefined;
  #state: State = 'connecting';
  #call: UpstreamRequest | undefined;
  /** The beginning of a head that has not come whole. */
  #partial: Buffer | undefined;
  #partialLength = 0;
  /** A buffer of its own, while it carries a large body. */
  #own: Buffer | undefined;
  #isPaused = false;
  #wasUsed = false;
  #isPersistent = false;
  #hasReceived = false;
  #hasEnded = false;
  #hasFailedWrite = false;
  #interimCount = 0;
  #error: Error | undefined;
  #since: number;
  #ownership: BufferOwnership = 'shared';
  #tunnel: TunnelEnd | undefined;
  #hasTunnelEnded = false;
  /** The tunnel is over. Written bytes may still go out. */
  #isClosing = false;

  /** Connects, and sends the call's request as soon as that is done. */
  constructor(call: UpstreamRequest, parts: PoolContext, pool: ConnectionPool) {
    this.#parts = parts;
    this.#pool = pool;
    this.#body = new BodyReader(parts.trailers);
    // The first item of the sweep sets the time, so read it after adding this one.
    parts.sweep.add(this);
    this.#since = parts.sweep.nowMs;
    this.#call = call;
    call.connection = this;
    const socket = new UpstreamSocket(this);
    this.#socket = socket;
    socket.on('connect', () => this.#guarded(onConnect));
    socket.on('drain', () => this.#guarded(onDrain));
    socket.on('error', (error) => (this.#error = error));
    socket.on('close', (hadError: boolean) => this.#guarded(onClose, hadError));
    this.#connect();
  }

  #connect(): void {
    const address = this.#parts.address();
    if (address) this.#socket.connect(address);
    else this.#socket.destroy(new Error('the address of the peer is not known'));
  }

  get isIdle(): boolean {
    return this.#state === 'idle' && !this.#socket.destroyed;
  }

  /** Takes the connection for a call; {@link send} sends its request. */
  assign(call: UpstreamRequest): void {
    this.#call = call;
    call.connection = this;
    this.#state = 'head';
    this.#hasReceived = false;
    this.#interimCount = 0;
    this.#since = this.#parts.sweep.nowMs;
  }

  /** Sends the request that it was assigned, unless it was closed in between. */
  send(): void {
    const call = this.#call;
    if (!call || call.wasSent || this.#socket.destroyed) return;
    call.wasSent = true;
    const { head, body } = call.request;
    const mayGoOn =
      body === undefined
        ? this.#socket.write(head, 'latin1') || this.#socket.writableLength === 0
        : writeBytes(this.#socket, head, body, 0, body.length, 'kept');
    call.wasWritable = mayGoOn;
    this.#updateAccount();
  }

  #guarded<Argument>(
    step: (connection: UpstreamConnection, argument: Argument) => void,
    argument?: Argument,
  ): void {
    const call = this.#call;
    try {
      step(this, argument as Argument);
    } catch (error) {
      this.#fault(error, call);
    }
  }

  /** `call` was in flight when the step that has thrown began. The connection may have released it since. */
  #fault(error: unknown, call: UpstreamRequest | undefined): void {
    this.#parts.onFault(error);
    this.#detach();
    this.#destroy();
    call?.sink.onFault();
  }

  // What a call asks for

  /** Whether more of the body may be written. */
  writeBody(bytes: Buffer): boolean {
    if (this.#hasFailedWrite || this.#socket.destroyed) return true;
    this.#since = this.#parts.sweep.nowMs;
    const mayGoOn = writeBytes(this.#socket, '', bytes, 0, bytes.length, 'kept');
    if (!mayGoOn) this.#updateAccount();
    return mayGoOn;
  }

  /** The body of the request is complete: a response that waited for it frees the connection. */
  bodySent(): void {
    this.#since = this.#parts.sweep.nowMs;
    if (this.#state === 'sending') this.#release();
  }

  pause(): void {
    this.#isPaused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#socket.resume();
  }

  /** Delivers chunks without their framing from now on. */
  decodeBody(): void {
    this.#body.decodes = true;
  }

  /** The response is not needed any more: nothing is called after this. */
  abort(): void {
    this.#detach();
    this.#destroy();
  }

  /** The pool is closing. */
  close(): void {
    this.#guarded(closeNow);
  }

  closeNow(): void {
    this.#fail('closed', 'the sidecar is stopping');
  }

  // Reading

  nextBuffer(): Buffer {
    return this.#own ?? this.#parts.buffers.shared;
  }

  onRead(length: number, bytes: Buffer): boolean {
    const call = this.#call;
    try {
      this.#read(bytes, length);
    } catch (error) {
      this.#fault(error, call);
    }
    return !this.#isPaused;
  }

  #read(bytes: Buffer, length: number): void {
    this.#ownership = bytes === this.#own ? 'lent' : 'shared';
    switch (this.#state) {
      case 'head':
        if (this.#call?.wasSent !== true) {
          this.#fail('connection-lost', 'the upstream responded before a request was sent');
          return;
        }
        this.#hasReceived = true;
        this.#readHead(bytes, length);
        break;
      case 'body':
        this.#readBody(bytes, 0, length);
        break;
      case 'tunnel':
        this.#since = this.#parts.sweep.nowMs;
        if (this.#tunnel?.write(bytes, 0, length, this.#ownership) === false) this.#isPaused = true;
        return;
      case 'sending':
        this.#dropBody();
        return;
      case 'connecting':
      case 'idle':
        // A response to nothing must not be taken for the next request's (RFC 9112 §9.3).
        this.#destroy();
        return;
      case 'closed':
        return;
    }
    this.#call?.sink.onReadDone();
  }

  #readHead(bytes: Buffer, length: number): void {
    let input = bytes;
    let end = length;
    if (this.#partial !== undefined) {
      input = this.#append(bytes, length);
      end = this.#partialLength;
      // A head is parsed when a line of it has ended, and not with every byte that it comes in.
      if (!bytes.subarray(0, length).includes(LF) && !this.#isTooLong(end)) return;
      this.#partial = undefined;
      this.#ownership = 'kept';
    }
    this.#parseHeads(input, end);
  }

  #isTooLong(length: number): boolean {
    return length > this.#parts.parser.headBytes;
  }

  #parseHeads(bytes: Buffer, end: number): void {
    let at = 0;
    while (at < end) {
      const parsed = this.#parts.parser.parse(bytes, at, end);
      if (parsed === undefined) {
        this.#keepPartial(bytes, at, end);
        return;
      }
      if ('reason' in parsed) {
        this.#fail('malformed-response', parsed.reason);
        return;
      }
      at = parsed.end;
      const { head } = parsed;
      if (head.statusCode === 101) {
        this.#switchProtocols(head, bytes.subarray(at, end));
        return;
      }
      if (head.statusCode >= 200) {
        this.#startBody(head);
        this.#readBody(bytes, at, end);
        return;
      }
      this.#interimCount += 1;
      if (this.#interimCount > MAX_INTERIM_RESPONSES) {
        this.#fail('malformed-response', 'too many interim responses');
        return;
      }
      this.#call?.sink.onInterim(head);
    }
  }

  #keepPartial(bytes: Buffer, from: number, end: number): void {
    this.#partial = Buffer.from(bytes.subarray(from, end));
    this.#partialLength = end - from;
  }

  #append(bytes: Buffer, length: number): Buffer {
    const total = this.#partialLength + length;
    let partial = this.#partial ?? Buffer.alloc(0);
    if (partial.length < total) {
      const grown = Buffer.allocUnsafe(Math.max(2 * partial.length, total));
      partial.copy(grown, 0, 0, this.#partialLength);
      partial = grown;
    }
    bytes.copy(partial, this.#partialLength, 0, length);
    this.#partial = partial;
    this.#partialLength = total;
    return partial;
  }

  #startBody(head: ParsedResponseHead): void {
    const call = this.#call;
    if (!call) return;
    call.forgetRequest();
    const framing = framingOf(head, call.request.method);
    this.#state = 'body';
    this.#body.begin(framing, head.contentLength ?? 0);
    // An app that has not switched may still have stopped to speak HTTP.
    this.#isPersistent =
      head.isPersistent && framing !== 'until-close' && call.request.upgrade === undefined;
    this.keepAlive = head.keepAlive;
    call.sink.onHead(head);
  }

  #readBody(bytes: Buffer, from: number, end: number): void {
    // The receiver of the head may have ended the call.
    if (this.#state !== 'body') return;
    const body = this.#body;
    const bodyEnd = body.read(bytes, from, end, this);
    if (bodyEnd === BROKEN_BODY) {
      this.#fail('malformed-response', 'the body is not framed as its head says');
    } else if (body.isComplete) {
      if (bodyEnd < end) this.#isPersistent = false;
      this.#endResponse();
    } else if (from === 0) this.#adaptBuffer(end);
  }

  onBodyBytes(bytes: Buffer, start: number, end: number): void {
    const sink = this.#call?.sink;
    if (!sink) return;
    const ownership =
      bytes === this.#own || bytes === this.#parts.buffers.shared ? this.#ownership : 'kept';
    if (!sink.onResponseBody(bytes, start, end, ownership)) this.#isPaused = true;
  }

  /** A body whose reads are full gets a larger buffer of its own. */
  #adaptBuffer(readLength: number): void {
    if (this.#own === undefined && readLength >= this.#parts.buffers.shared.length) {
      this.#own = this.#parts.buffers.take();
    }
  }

  #endResponse(): void {
    const call = this.#call;
    if (!call) return;
    // The client's socket may still write from this buffer.
    this.#returnBuffer(this.#isPaused);
    const isSent = call.isBodySent || this.#hasFailedWrite;
    if (!this.#isPersistent || this.#hasEnded || this.#hasFailedWrite || !call.wasSent) {
      this.#detach();
      this.#destroy();
      call.isUpstreamGone = true;
    } else if (isSent) {
      this.#detach();
      this.#free();
    } else {
      this.#state = 'sending';
    }
    call.sink.onResponseEnd();
  }

  /** The request's body, which was still being sent when the response was over, is out. */
  #release(): void {
    this.#detach();
    this.#free();
  }

  #free(): void {
    if (this.#socket.destroyed) {
      this.#destroy();
      return;
    }
    if (this.#socket.writableLength > 0) {
      // The app may still read the rest of the request. The next request must wait until it is sent.
      this.#state = 'sending';
      this.#since = this.#parts.sweep.nowMs;
      return;
    }
    this.#state = 'idle';
    this.#wasUsed = true;
    this.resume();
    this.#pool.onFree(this);
  }

  #switchProtocols(head: ParsedResponseHead, rest: Buffer): void {
    const call = this.#call;
    if (!call?.isBodySent || !isAskedFor(head.upgrade, call.request.upgrade)) {
      this.#fail('malformed-response', 'the upstream switched protocols unasked');
      return;
    }
    call.forgetRequest();
    this.#detach();
    this.#state = 'tunnel';
    this.#isPaused = true;
    call.sink.onUpgrade(head, this, rest.length > 0 ? Buffer.from(rest) : rest);
  }

  // As one end of a tunnel

  join(client: TunnelEnd): void {
    this.#tunnel = client;
    this.#since = this.#parts.sweep.nowMs;
    if (this.#hasEnded) client.end();
    if (this.#socket.destroyed) client.closeTunnel(this.#error !== undefined);
    else this.resume();
  }

  write(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean {
    this.#since = this.#parts.sweep.nowMs;
    return writeBytes(this.#socket, '', bytes, start, end, ownership);
  }

  end(): void {
    this.#hasTunnelEnded = true;
    this.#since = this.#parts.sweep.nowMs;
    this.#socket.end();
    if (this.#hasEnded) this.#socket.destroySoon();
  }

  closeTunnel(resets: boolean): void {
    this.#tunnel = undefined;
    this.#isClosing = true;
    this.#since = this.#parts.sweep.nowMs;
    if (resets) resetSocket(this.#socket);
    else this.#socket.destroySoon();
  }

  // Ends

  onReadEnd(): void {
    this.#guarded(receiveEnd);
  }

  receiveEnd(): void {
    this.#hasEnded = true;
    switch (this.#state) {
      case 'tunnel':
        this.#tunnel?.end();
        if (this.#hasTunnelEnded) this.#socket.destroySoon();
        break;
      case 'body':
        if (this.#body.framing === 'until-close') {
          this.#isPersistent = false;
          this.#endResponse();
          break;
        }
        this.#fail('connection-lost', 'the upstream closed during its response');
        break;
      case 'connecting':
      case 'head':
        this.#fail('connection-lost', 'the upstream closed before its response');
        break;
      case 'idle':
        this.#destroy();
        break;
      case 'sending':
        this.#dropBody();
        break;
      case 'closed':
        break;
    }
  }

  /** The response is complete, and the upstream reads no more of the request. */
  #dropBody(): void {
    const call = this.#detach();
    this.#destroy();
    call?.sink.onBodyUnwanted();
  }

  onWriteFailed(): boolean {
    const mayStillRead = this.#state === 'head' || this.#state === 'body';
    if (!mayStillRead || this.#hasFailedWrite) return mayStillRead;
    this.#hasFailedWrite = true;
    this.#since = this.#parts.sweep.nowMs;
    this.#guarded(tellUnwanted);
    return true;
  }

  tellUnwanted(): void {
    this.#call?.sink.onBodyUnwanted();
  }

  connected(): void {
    this.#parts.onDialled('connected');
    if (this.#state !== 'connecting') return;
    this.#state = 'head';
    this.#since = this.#parts.sweep.nowMs;
    this.sendLate();
  }

  sendSafely(): void {
    this.#guarded(sendLate);
  }

  /** Sends what could not be sent during the call that began it. */
  sendLate(): void {
    const call = this.#call;
    this.send();
    if (call?.wasWritable === true) call.sink.onUpstreamWritable();
  }

  canWrite(): void {
    this.#since = this.#parts.sweep.nowMs;
    this.#updateAccount();
    if (this.#state === 'tunnel') this.#tunnel?.resume();
    else if (this.#state === 'sending' && !this.#call) this.#free();
    else if (this.#call?.wasSent === true) this.#call.sink.onUpstreamWritable();
  }

  closed(hadError: boolean): void {
    const state = this.#state;
    this.#state = 'closed';
    this.#account?.set(0);
    this.#parts.sweep.remove(this);
    this.#returnBuffer(true);
    // The receiver of the next call may send again, or throw.
    this.#pool.onClosed(this);
    if (state === 'connecting') {
      this.#parts.onDialled('failed');
      this.#fail('connect-failed', 'no connection to the upstream', this.#error);
    } else if (this.#tunnel) {
      this.#tunnel.closeTunnel(hadError);
      this.#tunnel = undefined;
    } else if (state === 'sending') {
      this.#dropBody();
    } else if (this.#call) {
      this.#fail('connection-lost', 'the connection to the upstream failed', this.#error);
    }
  }

  #fail(code: UpstreamErrorCode, message: string, cause?: Error): void {
    if (this.#state === 'sending') {
      this.#dropBody();
      return;
    }
    const call = this.#detach();
    this.#destroy();
    if (!call) return;
    const wasReused = this.#wasUsed && !this.#hasReceived;
    if (code === 'connection-lost' && wasReused) this.#pool.onLost();
    const text = cause && 'code' in cause ? `${message}: ${String(cause.code)}` : message;
    const wasNotSent = !call.wasSent;
    call.sink.onError(
      new UpstreamError(code, text, {
        wasNotSent,
        wasReused,
        wasHeard: this.#hasReceived,
        cause,
      }),
    );
  }

  #detach(): UpstreamRequest | undefined {
    const call = this.#call;
    this.#call = undefined;
    if (call) call.connection = undefined;
    return call;
  }

  #destroy(): void {
    this.#state = 'closed';
    this.#socket.destroy();
  }

  #returnBuffer(isInUse: boolean): void {
    if (this.#own === undefined) return;
    this.#parts.buffers.giveBack(this.#own, isInUse);
    this.#own = undefined;
  }

  #updateAccount(): void {
    const held = this.#socket.writableLength;
    if (held === 0 && this.#account === undefined) return;
    this.#account ??= this.#parts.budget.open();
    this.#account.set(held);
  }

  // Timeouts

  checkTimeouts(nowMs: number): void {
    this.#guarded(lookAtTime, nowMs);
  }

  lookAtTime(nowMs: number): void {
    const waitedMs = nowMs - this.#since;
    const { connectTimeoutMs, headTimeoutMs } = this.#parts;
    // The last bytes of a request leave the socket without an event, and short waits open no account.
    this.#updateAccount();
    switch (this.#state) {
      case 'connecting':
        if (connectTimeoutMs > 0 && waitedMs >= connectTimeoutMs) {
          this.#parts.onDialled('failed');
          this.#fail('connect-timeout', 'the upstream did not accept the connection in time');
        }
        break;
      case 'head':
        if (this.#hasFailedWrite && waitedMs >= FAILED_WRITE_MS) {
          this.#fail('connection-lost', 'the upstream closed before its response');
        } else if (headTimeoutMs > 0 && waitedMs >= headTimeoutMs && this.#isUpstreamsTurn()) {
          this.#fail('head-timeout', 'no response came in time');
        }
        break;
      case 'idle':
        if (nowMs >= this.idleUntil) this.#destroy();
        break;
      case 'tunnel':
        if (this.#isClosing && waitedMs >= UNWRITTEN_REST_MS) this.#destroy();
        break;
      case 'sending':
        if (this.#call) break;
        if (this.#socket.writableLength === 0) this.#free();
        else if (waitedMs >= UNWRITTEN_REST_MS) this.#destroy();
        break;
      case 'body':
      case 'closed':
        break;
    }
  }

  /** The request is sent, or the upstream does not read the rest of it. */
  #isUpstreamsTurn(): boolean {
    return this.#call?.isBodySent === true || this.#socket.writableLength > 0;
  }
}

/** One request in flight. Its connection releases it at its end; from then on it does nothing. */
export class UpstreamRequest {
  readonly request: SerializedRequest;
  readonly sink: ResponseHandler;
  connection: UpstreamConnection | undefined;
  wasSent = false;
  wasWritable = false;
  isBodySent: boolean;
  /** The response is complete and its connection is gone: the rest of the body is dropped. */
  isUpstreamGone = false;

  constructor(request: SerializedRequest, sink: ResponseHandler) {
    this.request = request;
    this.sink = sink;
    this.isBodySent = request.isComplete;
  }

  /** It is sent and responded to, so it is not sent again. */
  forgetRequest(): void {
    this.request.head = '';
    this.request.body = undefined;
  }

  /** More of the body, framed; whether even more may be written now. Not before `onUpstreamWritable`. */
  write(bytes: Buffer): boolean {
    return this.connection?.writeBody(bytes) ?? true;
  }

  endBody(): void {
    this.isBodySent = true;
    this.connection?.bodySent();
  }

  pause(): void {
    this.connection?.pause();
  }

  resume(): void {
    this.connection?.resume();
  }

  decodeBody(): void {
    this.connection?.decodeBody();
  }

  abort(): void {
    this.connection?.abort();
  }
}

function sendLate(connection: UpstreamConnection): void {
  connection.sendLate();
}

function tellUnwanted(connection: UpstreamConnection): void {
  connection.tellUnwanted();
}

function onConnect(connection: UpstreamConnection): void {
  connection.connected();
}

function onDrain(connection: UpstreamConnection): void {
  connection.canWrite();
}

function receiveEnd(connection: UpstreamConnection): void {
  connection.receiveEnd();
}

function onClose(connection: UpstreamConnection, hadError: boolean): void {
  connection.closed(hadError);
}

function closeNow(connection: UpstreamConnection): void {
  connection.closeNow();
}

function lookAtTime(connection: UpstreamConnection, nowMs: number): void {
  connection.lookAtTime(nowMs);
}

/** An upstream may only switch to what it was asked for (RFC 9110 §7.8). */
function isAskedFor(chosen: string | undefined, asked: string | undefined): boolean {
  if (chosen === undefined || asked === undefined) return false;
  const protocols = asked.toLowerCase().split(', ');
  return chosen
    .toLowerCase()
    .split(',')
    .every((protocol) => protocols.includes(protocol.trim()));
}
