/**
 * The requests of a client's connection, one at a time. The next head is parsed when the response before it is
 * finished, so a fault of one request never affects another.
 *
 *   HEAD ─ok─> BODY ─end─> WAIT ─response finished─> HEAD
 *     │bad, 408  │bad        │  └─body was not read─> DRAIN ─end─> HEAD
 *     │          │           │101─> OVER: the connection is a tunnel
 *     └──────────┴─> OVER <──┘ close, FIN, body unfinished: the connection lingers
 */
import type { Socket } from 'node:net';
import { BROKEN_BODY } from './body-reader.ts';
import { IncomingBody, type IncomingBodyOptions } from './incoming-body.ts';
import { IncomingRequest } from './incoming-request.ts';
import type { RequestConnection, ServingConnection } from './request-connection.ts';
import {
  INVALID_BODY,
  type MalformedRequest,
  requestFramingOf,
  unreadableHead,
  type ParsedRequestHead,
} from './request-head.ts';
import { RequestQueue, type HeadSink, type RequestQueueOptions } from './request-queue.ts';
import { RequestTimeouts, type Phase, type WaitingRequests } from './request-timeouts.ts';
import { resetSocket, type TunnelEnd } from './socket.ts';
import type { Sweep } from './sweep.ts';

/** What a listener does with its requests. */
export interface RequestHandler {
  /**
   * A head is complete. Must set a listener, or respond within the call: later the request may be over, as
   * the client has disconnected or its body is malformed.
   */
  handle(incoming: IncomingRequest): void;
  /** A head is malformed. Must respond within the call, and the connection ends with the response. */
  handleMalformed(incoming: IncomingRequest, why: MalformedRequest): void;
}

export interface ServedRequestsOptions extends RequestQueueOptions, IncomingBodyOptions {
  readonly handler: RequestHandler;
  readonly sweep: Sweep;
}

export class ServedRequests implements RequestConnection, HeadSink, WaitingRequests {
  readonly socket: Socket;
  readonly queue: RequestQueue;
  readonly timeouts: RequestTimeouts;
  readonly #connection: ServingConnection;
  readonly #options: ServedRequestsOptions;
  readonly #body: IncomingBody;
  #phase: Phase = 'head';
  #incoming: IncomingRequest | undefined;
  #isPumpDue = false;

  constructor(connection: ServingConnection, options: ServedRequestsOptions) {
    this.socket = connection.socket;
    this.#connection = connection;
    this.#options = options;
    this.queue = new RequestQueue(this.socket, this, options);
    this.#body = new IncomingBody(this.socket, options);
    this.timeouts = new RequestTimeouts(this, connection, options);
  }

  get isEnding(): boolean {
    return this.#connection.isEnding;
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** The request in flight. */
  get incoming(): IncomingRequest | undefined {
    return this.#incoming;
  }

  /** Received and not delivered. */
  get heldBytes(): number {
    return this.queue.keptBytes + (this.#incoming?.earlyBytes ?? 0);
  }

  account(): void {
    this.#connection.account();
  }

  receive(bytes: Buffer): void {
    if (this.#phase === 'head') this.#readHead(bytes);
    else if (this.#phase === 'wait') this.#keep(bytes);
    else if (this.#phase !== 'over') this.#readBody(bytes, 0, bytes.length);
  }

  #readHead(bytes: Buffer): void {
    const isFirst = this.queue.keptBytes === 0;
    if (this.queue.read(bytes)) this.#updateReading();
    else if (isFirst && this.#phase === 'head') this.timeouts.restart();
  }

  onHead(head: ParsedRequestHead, bytes: Buffer, bodyStart: number): void {
    this.timeouts.onHead();
    const framing = requestFramingOf(head);
    const incoming = new IncomingRequest(this, head, framing === 'none');
    this.#incoming = incoming;
    if (framing === 'none') {
      this.#phase = 'wait';
      if (bodyStart < bytes.length) this.#keep(bytes.subarray(bodyStart));
    } else {
      this.#phase = 'body';
      this.#body.begin(incoming, framing, head.contentLength ?? 0);
      this.#readBody(bytes, bodyStart, bytes.length);
      // The body is malformed from its first bytes on, and the handler has not got the request yet.
      if (this.#incoming !== incoming) return;
      if (this.#connection.hasEnded && !incoming.isBodyComplete) {
        // The rest will not come, and no further event reports that.
        incoming.breakOff();
        return;
      }
    }
    this.#options.handler.handle(incoming);
  }

  /** A head that can't be read: one response, and the end of the connection. */
  onMalformedHead(why: MalformedRequest, bytes: Buffer | undefined): void {
    this.#phase = 'wait';
    const incoming = new IncomingRequest(this, unreadableHead(bytes), true);
    this.#incoming = incoming;
    this.#options.handler.handleMalformed(incoming, why);
  }

  #keep(bytes: Buffer): void {
    this.queue.keep(bytes);
    this.#updateReading();
    this.account();
  }

  /**
   * Parses what is kept: one request a turn of the event loop, so that a client that sends many at once
   * delays no other client, and each request reuses the connection to the app of the one before.
   */
  #schedulePump(): void {
    if (this.#isPumpDue) return;
    this.#isPumpDue = true;
    setImmediate(() => this.#connection.guard(() => this.#pump()));
  }

  #pump(): void {
    this.#isPumpDue = false;
    // The event for it may come after this turn.
    if (this.#phase !== 'head' || this.socket.destroyed) return;
    if (this.queue.hasNews) this.timeouts.restart();
    this.queue.parseKept();
    this.#updateReading();
    this.#endIfHalfClosed();
  }

  #readBody(bytes: Buffer, from: number, end: number): void {
    const incoming = this.#incoming;
    this.timeouts.restart();
    const bodyEnd = this.#body.read(bytes, from, end);
    if (bodyEnd === BROKEN_BODY) this.breakBody(INVALID_BODY);
    else if (this.#body.isComplete) {
      if (bodyEnd < end) this.queue.keep(bytes.subarray(bodyEnd, end));
      this.#endBody(incoming);
    } else if (incoming?.isReadingBody === false) {
      if (this.#body.isFull) this.#connection.pause();
      this.account();
    }
  }

  #endBody(incoming: IncomingRequest | undefined): void {
    if (this.#phase === 'drain') this.#nextHead();
    else if (this.#phase === 'body') this.#phase = 'wait';
    this.#updateReading();
    if (this.queue.keptBytes > 0) this.account();
    incoming?.deliverEnd();
  }

  breakBody(why: MalformedRequest): void {
    const incoming = this.#incoming;
    if (this.#phase === 'drain' || !incoming) {
      this.socket.destroy();
      return;
    }
    // What follows is not read: the beginning of the next request is unknown.
    this.#phase = 'wait';
    this.queue.take();
    if (incoming.isListenedTo) incoming.deliverBroken(why);
    else {
      // The handler has not got the request yet, or does not serve it yet: it finds it over.
      incoming.deliverGone();
      this.onMalformedHead(why, undefined);
    }
  }

  setBodyPaused(isPaused: boolean): void {
    this.#body.isPaused = isPaused;
    this.#updateReading();
  }

  mayDrainBody(): boolean {
    return this.#phase !== 'body' || this.#body.mayBeDropped;
  }

  // The end of a response

  finish(closes: boolean): void {
    this.#incoming = undefined;
    const isBodyLeft = this.#phase === 'body';
    const isLast = closes || this.isEnding || this.socket.destroyed;
    this.#body.detach(isBodyLeft && !isLast);
    if (isLast) this.#linger();
    else if (isBodyLeft) {
      this.#phase = 'drain';
      this.timeouts.restart();
      this.#updateReading();
    } else this.#nextHead();
  }

  #nextHead(): void {
    this.#phase = 'head';
    this.timeouts.restart();
    this.account();
    if (this.queue.open()) this.#schedulePump();
    else {
      this.#updateReading();
      this.#endIfHalfClosed();
    }
  }

  #linger(): void {
    this.#phase = 'over';
    this.queue.take();
    this.#connection.linger();
  }

  endIdle(): void {
    this.#phase = 'over';
    this.queue.take();
    this.#connection.closeSoon();
  }

  /** A client that has ended its side sends no more than what is here already. */
  #endIfHalfClosed(): void {
    const isDone = this.#phase === 'head' && !this.queue.hasNews;
    if (isDone && this.#connection.hasEnded) this.endIdle();
  }

  destroy(resets: boolean): void {
    if (resets) resetSocket(this.socket);
    else this.socket.destroy();
  }

  openTunnel(upstream: TunnelEnd): TunnelEnd {
    this.#phase = 'over';
    return this.#connection.openTunnel(upstream, this.queue.take());
  }

  // Events of the connection

  /** Ends the connection if no request is in flight; otherwise that request is the last. */
  closeWhenIdle(): void {
    if (this.#phase === 'head' && this.#incoming === undefined) this.endIdle();
  }

  /** The client has ended its side; it may still read. */
  onReadEnd(): void {
    this.timeouts.onReadEnd();
    if (this.#phase === 'head') this.#endIfHalfClosed();
    // The rest will not come.
    else if (this.#phase === 'body') this.#incoming?.breakOff();
    else if (this.#phase === 'drain') this.#linger();
  }

  onWritable(): void {
    this.timeouts.restart();
    if (this.#phase === 'head') this.#schedulePump();
    else this.#incoming?.deliverWritable();
  }

  onClosed(): void {
    const incoming = this.#incoming;
    this.#phase = 'over';
    this.#incoming = undefined;
    this.queue.take();
    incoming?.deliverGone();
  }

  #isReading(): boolean {
    if (this.#phase === 'body' || this.#phase === 'drain') return this.#body.isReading;
    // WAIT reads on: only a read shows that the client has disconnected.
    return (this.#phase === 'head' && !this.queue.hasNews) || !this.queue.isFull;
  }

  /** Once no more requests are read, pausing is up to the connection. */
  #updateReading(): void {
    if (this.#phase === 'over') return;
    if (this.#isReading()) this.#connection.resume();
    else this.#connection.pause();
  }
}
