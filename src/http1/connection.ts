/**
 * One connection to the server: it carries one call at a time, and is used again only if nothing
 * about the last one is in doubt.
 *
 *   connecting --connect--> busy --answer whole, request whole, nothing left over--> idle
 *        |                   ^ |                                                       |
 *        |                   | '--101--> handed over       reserved <--reserve---------'
 *        |                   '---------------start------------'  |
 *        '------- error, end, abort, bytes that nobody asked for: from any --> closed
 */
import type { Socket } from 'node:net';
import type { Cancel, Clock } from '../clock.ts';
import { UpstreamError, type UpstreamErrorCode } from '../proxy/upstream.ts';
import { BodySender } from './body-sender.ts';
import type { Call, Carrier } from './call.ts';
import { Delivery, type SwitchingAnswer } from './delivery.ts';
import { MalformedAnswer } from './malformed.ts';
import { writeRequest } from './request-head.ts';
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
  /** It had served before and was then lost with a call: it may not be the only one. */
  onLost(): void;
  /** It carries nothing, and never will. */
  onClosed(connection: Connection): void;
}

type State = 'connecting' | 'idle' | 'reserved' | 'busy' | 'closed';

export class Connection implements Carrier {
  readonly #options: ConnectionOptions;
  readonly #owner: ConnectionOwner;
  readonly #source: ByteSource;
  readonly #socket: Socket;
  readonly #delivery: Delivery;
  #state: State = 'connecting';
  #call: Call | undefined;
  #body: BodySender | undefined;
  #wasUsed = false;
  /** As the socket says; `closed` may also be what we are about to make of it. */
  #isSocketClosed = false;
  #error: Error | undefined;
  #cancelTimer: Cancel | undefined;

  /** Connects, and carries the call as soon as that is done. */
  constructor(call: Call, options: ConnectionOptions, owner: ConnectionOwner) {
    this.#options = options;
    this.#owner = owner;
    this.#source = options.open((bytes, byteCount) => this.#onBytes(bytes, byteCount));
    this.#delivery = new Delivery(this.#source, options.maxHeadBytes, {
      onHead: () => this.#clearTimer(),
      onWhole: (answered, rawTrailers) => this.#endAnswer(answered, rawTrailers),
      onSwitched: (answered, answer) => this.#handOver(answered, answer),
      onBroken: (code, message, cause) => this.#fail(code, message, cause),
    });
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

  /** What the last answer's `Keep-Alive` said. */
  get keepAlive(): string | undefined {
    return this.#delivery.keepAlive;
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
    this.#delivery.begin(call);
    call.sink.onSent(call);
    if (this.#call === call) this.#send(call);
  }

  pause(): void {
    this.#source.pause();
  }

  resume(): void {
    this.#source.resume();
    process.nextTick(deliverFrom, this.#delivery);
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

  #send(call: Call): void {
    const { head, body } = call;
    if (!head) return;
    call.head = undefined;
    call.body = null;
    writeRequest(this.#socket, head, body);
    if (body === null || Buffer.isBuffer(body)) {
      this.#awaitHead();
      return;
    }
    this.#body = new BodySender(body, head.bodyLength, this.#socket, {
      onSent: () => this.#awaitHead(),
      onStalled: (isStalled) => (isStalled ? this.#awaitHead() : this.#clearTimer()),
      onFailed: (cause) => this.#fail('request-body-failed', cause.message, cause),
    });
    this.#body.start();
  }

  #endAnswer(call: Call, rawTrailers: string[]): void {
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
    const isAllOut = this.#socket.writableLength === 0 && (this.#body?.isSent ?? true);
    return this.#options.isReusable && isAllOut && this.#delivery.isInStep;
  }

  #handOver(call: Call, { statusCode, rawHeaders, rest }: SwitchingAnswer): void {
    if (this.#body?.isSent === false)
      throw new MalformedAnswer('101 before the request was all sent');
    const socket = this.#socket;
    this.#detach();
    this.#state = 'closed';
    this.#source.release();
    socket.off('end', this.#onEnd).off('error', this.#onError).off('close', this.#onClose);
    if (rest.length > 0) socket.unshift(rest);
    this.#owner.onClosed(this);
    call.sink.onUpgrade(statusCode, rawHeaders, socket);
  }

  /** It is the server's turn: to answer, or to take more of the body. */
  #awaitHead(): void {
    if (!this.#delivery.awaitsHead) return;
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
    // An answer to nothing must not be taken for the next request's (RFC 9112 §9.3).
    if (this.#state === 'busy') this.#delivery.take(bytes, byteCount);
    else this.#socket.destroy();
  }

  readonly #onEnd = (): void => {
    if (this.#state === 'busy') this.#delivery.endBy('end');
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
      this.#fail('connect-failed', 'no connection', this.#error);
    } else if (state === 'reserved') {
      const call = this.#detach();
      if (call) this.#owner.onUnsent(call);
    } else if (this.#call) {
      this.#delivery.endBy(this.#error ?? new Error('it was closed'));
    } else {
      this.#owner.onClosed(this);
    }
  };

  #fail(code: UpstreamErrorCode, message: string, cause?: Error): void {
    const wasReused = this.#wasUsed;
    const call = this.#detach();
    this.#destroy();
    if (!call) return;
    if (code === 'connection-lost' && wasReused) this.#owner.onLost();
    const text = cause && 'code' in cause ? `${message}: ${String(cause.code)}` : message;
    const wasNotSent = call.head !== undefined;
    call.fail(new UpstreamError(code, text, { wasNotSent, wasReused, cause }));
  }

  #attach(call: Call): void {
    this.#call = call;
    call.carrier = this;
  }

  /** Whatever ends the call: from here on it and the connection know nothing of each other. */
  #detach(): Call | undefined {
    const call = this.#call;
    this.#call = undefined;
    if (call) call.carrier = undefined;
    this.#delivery.stop();
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

function deliverFrom(delivery: Delivery): void {
  delivery.deliver();
}

function failWith(call: Call, reason: Error): void {
  call.fail(reason);
}
