/**
 * One connection to the server: it carries one call at a time, and is used again only if nothing
 * about the last one is in doubt.
 *
 *   connecting --connect--> busy --answer whole, request whole, nothing left over--> idle
 *        |                   ^ |                                                       |
 *        |                   | '--101--> handed over       reserved <--carry-----------'
 *        |                   '---------------start------------'  |
 *        '------- error, end, abort, bytes that nobody asked for: from any --> closed
 */
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { Cancel, Clock } from '../clock.ts';
import { UpstreamError, type UpstreamErrorCode } from '../proxy/upstream.ts';
import { BodySender } from './body-sender.ts';
import type { Call, Carrier } from './call.ts';
import { MalformedAnswer } from './malformed.ts';
import { ResponseParser } from './response-parser.ts';
import type { ByteSource, OpenSource } from './sockets.ts';

export interface ConnectionOptions {
  readonly clock: Clock;
  readonly connectTimeoutMs: number;
  readonly headTimeoutMs: number;
  readonly maxHeadBytes: number;
  /** Opens the socket; called once. */
  readonly open: OpenSource;
  /** Whether it may carry a second call. */
  readonly isReusable: boolean;
}

export interface ConnectionOwner {
  /** It may carry another call. */
  onFree(connection: Connection): void;
  /** It was lost before anything of the call was written: another one can carry it. */
  onUnsent(call: Call): void;
  /** It carries nothing, and never will. */
  onClosed(connection: Connection): void;
}

type State = 'connecting' | 'idle' | 'reserved' | 'busy' | 'closed';

export class Connection implements Carrier {
  readonly #options: ConnectionOptions;
  readonly #owner: ConnectionOwner;
  readonly #source: ByteSource;
  readonly #socket: Socket;
  readonly #parser: ResponseParser;
  #state: State = 'connecting';
  #call: Call | undefined;
  #body: BodySender | undefined;
  #wasUsed = false;
  #isDelivering = false;
  #isSocketClosed = false;
  /** The server has ended the connection, cleanly or not, while answers to deliver were left. */
  #endedBy: Error | 'end' | undefined;
  #error: Error | undefined;
  #cancelTimer: Cancel | undefined;

  /** Connects, and carries the call as soon as that is done. */
  constructor(call: Call, options: ConnectionOptions, owner: ConnectionOwner) {
    this.#options = options;
    this.#owner = owner;
    this.#parser = new ResponseParser(options.maxHeadBytes);
    this.#source = options.open((bytes, end) => this.#onBytes(bytes, end));
    this.#socket = this.#source.socket;
    this.#socket.once('connect', this.#onConnect).on('end', this.#onEnd);
    this.#socket.on('error', this.#onError).on('close', this.#onClose);
    this.#setTimer(options.connectTimeoutMs, 'connect-timeout', 'nobody has taken the connection');
    this.#attach(call);
  }

  /** Whether it may be reserved. */
  get isIdle(): boolean {
    return this.#state === 'idle' && !this.#socket.destroyed;
  }

  /** How long the server keeps it when idle, in ms, if it has said so. */
  get keepAliveMs(): number | undefined {
    return this.#parser.keepAliveMs;
  }

  /** Takes the connection for the call; `start` sends it. */
  reserve(call: Call): void {
    this.#state = 'reserved';
    this.#attach(call);
  }

  /** Sends what it was reserved for, unless it was closed in between. */
  start(): void {
    const call = this.#call;
    if (!call || this.#socket.destroyed) return;
    this.#state = 'busy';
    this.#parser.begin(call);
    call.sink.onSent(call);
    if (this.#call === call) this.#send(call);
  }

  pause(): void {
    this.#source.pause();
  }

  resume(): void {
    this.#source.resume();
    if (!this.#isDelivering) process.nextTick(deliverFrom, this);
  }

  /** Closes it; the call that it carries, if any, hears the reason, though not within this call. */
  abort(reason: Error): void {
    const call = this.#detach();
    this.#destroy();
    if (call) process.nextTick(failWith, call, reason);
  }

  /** The upstream is being closed. As `abort`, with an error that says so. */
  close(): void {
    const wasNotSent = this.#call?.head !== undefined;
    this.abort(closedError({ wasNotSent, wasReused: this.#wasUsed }));
  }

  /** Hands on what was parsed, until there is no more or the receiver pauses. */
  deliver(): void {
    const call = this.#call;
    if (!call || this.#isDelivering) return;
    this.#isDelivering = true;
    try {
      while (this.#call === call && !call.isPaused && this.#deliverNext(call));
    } catch (error) {
      if (!(error instanceof MalformedAnswer)) throw error;
      this.#fail('malformed-answer', error.message);
    } finally {
      this.#isDelivering = false;
    }
    this.#parser.release();
    if (this.#endedBy && this.#call === call && !call.isPaused) this.#endWith(this.#endedBy, call);
  }

  /** Returns whether to go on. */
  #deliverNext(call: Call): boolean {
    const parser = this.#parser;
    switch (parser.next()) {
      case 'more':
        return false;
      case 'information':
        call.sink.onInformation(parser.statusCode, parser.rawHeaders);
        return true;
      case 'head':
        this.#clearTimer();
        call.sink.onHead(parser.statusCode, parser.rawHeaders);
        return true;
      case 'data':
        this.#source.handOn(parser.bytes, parser.dataStart, parser.dataEnd, call.sink);
        return true;
      case 'end':
        this.#endAnswer(call);
        return false;
      case 'upgrade':
        this.#handOver(call);
        return false;
    }
  }

  #endAnswer(call: Call): void {
    const { rawTrailers } = this.#parser;
    const isFree = this.#mayBeUsedAgain();
    this.#detach();
    if (isFree) {
      this.#state = 'idle';
      this.#wasUsed = true;
      this.#owner.onFree(this);
    } else {
      this.#destroy();
    }
    call.sink.onEnd(rawTrailers);
  }

  /** Bytes after the answer, or a request that is not all out: the next answer could be another's. */
  #mayBeUsedAgain(): boolean {
    return (
      this.#options.isReusable &&
      this.#parser.isPersistent &&
      !this.#parser.hasRest &&
      this.#endedBy === undefined &&
      this.#socket.writableLength === 0 &&
      (this.#body?.isSent ?? true)
    );
  }

  #handOver(call: Call): void {
    if (this.#body?.isSent === false)
      throw new MalformedAnswer('101 before the request was all sent');
    const { statusCode, rawHeaders } = this.#parser;
    const rest = this.#parser.takeRest();
    const socket = this.#socket;
    this.#detach();
    this.#state = 'closed';
    this.#source.release();
    socket.off('end', this.#onEnd).off('error', this.#onError).off('close', this.#onClose);
    if (rest.length > 0) socket.unshift(rest);
    this.#owner.onClosed(this);
    call.sink.onUpgrade(statusCode, rawHeaders, socket);
  }

  #send(call: Call): void {
    const { head, body } = call;
    call.head = undefined;
    call.body = null;
    if (!head) return;
    if (body && !Buffer.isBuffer(body)) {
      this.#socket.write(head.text, 'latin1');
      this.#sendStream(body, head.bodyLength);
      return;
    }
    if (body) writeTogether(this.#socket, head.text, body);
    else this.#socket.write(head.text, 'latin1');
    this.#awaitHead();
  }

  #sendStream(body: Readable, length: number | undefined): void {
    this.#body = new BodySender(body, length, this.#socket, {
      onSent: () => this.#awaitHead(),
      onStalled: (isStalled) => (isStalled ? this.#awaitHead() : this.#clearTimer()),
      onFailed: (cause) => this.#fail('request-body-failed', cause.message, cause),
    });
    this.#body.start();
  }

  /** It is the server's turn: to answer, or to take more of the body. */
  #awaitHead(): void {
    if (!this.#parser.isInHead) return;
    this.#setTimer(this.#options.headTimeoutMs, 'head-timeout', 'no answer has come in time');
  }

  #setTimer(ms: number, code: UpstreamErrorCode, message: string): void {
    this.#clearTimer();
    if (ms > 0) this.#cancelTimer = this.#options.clock.after(ms, () => this.#fail(code, message));
  }

  #clearTimer(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  readonly #onConnect = (): void => {
    this.#clearTimer();
    this.start();
  };

  #onBytes(bytes: Buffer, byteCount: number): void {
    if (this.#state !== 'busy') {
      // An answer to nothing must not be taken for the next request's (RFC 9112 §9.3).
      this.#socket.destroy();
      return;
    }
    this.#parser.feed(bytes, byteCount);
    this.deliver();
    this.#source.onRead(byteCount, this.#parser.isInBody);
  }

  readonly #onEnd = (): void => {
    this.#endedBy ??= 'end';
    if (this.#state === 'busy') this.deliver();
    else this.#socket.destroy();
  };

  readonly #onError = (error: Error): void => {
    this.#error = error;
  };

  readonly #onClose = (): void => {
    const state = this.#state;
    this.#state = 'closed';
    this.#isSocketClosed = true;
    if (state === 'connecting') {
      this.#fail('connect-failed', `no connection: ${codeOf(this.#error)}`, this.#error);
    } else if (state === 'reserved') {
      const call = this.#detach();
      if (call) this.#owner.onUnsent(call);
    } else if (this.#call) {
      this.#endedBy ??= this.#error ?? new Error('the connection was closed');
      this.deliver();
    } else {
      this.#owner.onClosed(this);
    }
  };

  /** What the end means for the answer, once all that came before it is delivered. */
  #endWith(endedBy: Error | 'end', call: Call): void {
    if (endedBy === 'end') {
      if (this.#parser.finish()) this.#endAnswer(call);
      else this.#fail('connection-lost', 'the connection ended before the answer was whole');
    } else {
      this.#fail('connection-lost', `the connection broke: ${codeOf(endedBy)}`, endedBy);
    }
  }

  #fail(code: UpstreamErrorCode, message: string, cause?: Error): void {
    const wasReused = this.#wasUsed;
    const call = this.#detach();
    this.#destroy();
    if (!call) return;
    const wasNotSent = call.head !== undefined;
    call.fail(new UpstreamError(code, message, { wasNotSent, wasReused, cause }));
  }

  #attach(call: Call): void {
    this.#call = call;
    call.carrier = this;
  }

  #detach(): Call | undefined {
    const call = this.#call;
    this.#call = undefined;
    if (call) call.carrier = undefined;
    this.#clearTimer();
    this.#body?.stop();
    this.#body = undefined;
    if (this.#isSocketClosed) this.#owner.onClosed(this);
    return call;
  }

  #destroy(): void {
    this.#state = 'closed';
    this.#socket.destroy();
  }
}

export function closedError(details: { wasNotSent: boolean; wasReused: boolean }): UpstreamError {
  return new UpstreamError('closed', 'the upstream is being closed', details);
}

function deliverFrom(connection: Connection): void {
  connection.deliver();
}

function failWith(call: Call, reason: Error): void {
  call.fail(reason);
}

/** Up to here a copy into one string, and one write, is cheaper than two buffers written together. In bytes. */
const MAX_STRING_BODY_BYTES = 16_384;

function writeTogether(socket: Socket, head: string, body: Buffer): void {
  if (body.length <= MAX_STRING_BODY_BYTES) {
    socket.write(head + body.toString('latin1'), 'latin1');
    return;
  }
  socket.cork();
  socket.write(head, 'latin1');
  socket.write(body);
  socket.uncork();
}

function codeOf(error: Error | undefined): string {
  return error && 'code' in error ? String(error.code) : 'closed';
}
