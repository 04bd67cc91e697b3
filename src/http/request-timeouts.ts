/** Ends what takes too long while a client's connection serves requests. */
import type { IncomingRequest } from './incoming-request.ts';
import {
  LINGER_MS,
  type Limits,
  HALF_CLOSE_MS,
  HALF_CLOSE_OLD_MS,
  HALF_CLOSE_PROBES,
} from './limits.ts';
import type { ServingConnection } from './request-connection.ts';
import { BODY_TIMEOUT, type MalformedRequest } from './request-head.ts';
import type { RequestQueue } from './request-queue.ts';
import { PROCESSING } from './response-head.ts';
import type { Sweep } from './sweep.ts';
import type { Socket } from 'node:net';

/** What is waited for: `served-requests.ts` draws the states. */
export type Phase = 'head' | 'body' | 'wait' | 'drain' | 'over';

export interface WaitingRequests {
  readonly phase: Phase;
  readonly incoming: IncomingRequest | undefined;
  readonly queue: RequestQueue;
  /** No request is in flight, and none follows. */
  endIdle(): void;
  onMalformedHead(why: MalformedRequest, bytes: Buffer | undefined): void;
  breakBody(why: MalformedRequest): void;
}

export class RequestTimeouts {
  readonly #requests: WaitingRequests;
  readonly #connection: ServingConnection;
  readonly #limits: Limits;
  readonly #sweep: Pick<Sweep, 'nowMs'>;
  readonly #halfClosed = new HalfClosedClient();
  #hasServed = false;
  /** When what is being waited for began, in ms of the sweep. */
  #since: number;

  constructor(
    requests: WaitingRequests,
    connection: ServingConnection,
    options: { readonly limits: Limits; readonly sweep: Pick<Sweep, 'nowMs'> },
  ) {
    this.#requests = requests;
    this.#connection = connection;
    this.#limits = options.limits;
    this.#sweep = options.sweep;
    this.#since = options.sweep.nowMs;
  }

  restart(): void {
    this.#since = this.#sweep.nowMs;
  }

  /** A head is complete. */
  onHead(): void {
    this.restart();
    this.#hasServed = true;
    this.#halfClosed.begin(this.#since);
  }

  /** The client has ended its side. */
  onReadEnd(): void {
    this.restart();
    this.#halfClosed.begin(this.#since);
  }

  check(nowMs: number): void {
    const waitedMs = nowMs - this.#since;
    switch (this.#requests.phase) {
      case 'head':
        this.#checkHead(waitedMs, nowMs);
        break;
      case 'body':
        this.#connection.endStalled(nowMs);
        this.#checkBody(waitedMs);
        break;
      case 'wait':
        this.#checkHalfClosed(nowMs);
        this.#connection.endStalled(nowMs);
        break;
      case 'drain':
        if (waitedMs >= LINGER_MS) this.#connection.socket.destroy();
        break;
      case 'over':
        break;
    }
  }

  #checkHead(waitedMs: number, nowMs: number): void {
    const { headTimeoutMs, idleTimeoutMs } = this.#limits;
    const { queue } = this.#requests;
    const why = queue.overdue(waitedMs);
    if (why !== undefined) this.#requests.onMalformedHead(why, queue.take());
    else if (queue.hasNews) this.#connection.endStalled(nowMs);
    else if (queue.keptBytes === 0) {
      if (waitedMs >= (this.#hasServed ? idleTimeoutMs : headTimeoutMs)) this.#requests.endIdle();
    }
  }

  #checkBody(waitedMs: number): void {
    const { stallTimeoutMs } = this.#limits;
    const { socket, reads } = this.#connection;
    if (stallTimeoutMs === 0 || waitedMs < stallTimeoutMs) return;
    if (socket.destroyed || reads.isPaused) return;
    const { incoming } = this.#requests;
    if (incoming?.isResponding === false) this.#requests.breakBody(BODY_TIMEOUT);
    // The client has its response, and only the rest of its own body is missing.
    else if (incoming?.isAwaitingBody && socket.writableLength === 0) socket.destroy();
  }

  #checkHalfClosed(nowMs: number): void {
    const { incoming } = this.#requests;
    const isWaiting = this.#connection.hasEnded && incoming !== undefined;
    if (isWaiting && !this.#halfClosed.mayWait(incoming, nowMs)) this.#connection.socket.destroy();
  }
}

/* Notices a client that reads no byte of its response. */

export class StallWatch {
  readonly #socket: Socket;
  readonly #sweep: Pick<Sweep, 'nowMs'>;
  /** What the client had taken when it was last looked at, in bytes, and since when it takes no more. */
  #takenBytes = 0;
  #takenAt = 0;

  constructor(socket: Socket, sweep: Pick<Sweep, 'nowMs'>) {
    this.#socket = socket;
    this.#sweep = sweep;
  }

  /** How long bytes have been waiting, and the client has taken none, in ms. */
  stalledMs(nowMs: number): number {
    const waiting = this.#socket.writableLength;
    const takenBytes = waiting === 0 ? -1 : this.#socket.bytesWritten - waiting;
    if (waiting > 0 && takenBytes === this.#takenBytes) return nowMs - this.#takenAt;
    this.#takenBytes = takenBytes;
    this.#takenAt = this.#sweep.nowMs;
    return 0;
  }
}

/*
 * A client that has ended its side and waits for a response. It gets one with a length. A stream is ended, as
 * the client may be gone.
 */

class HalfClosedClient {
  /** Since when it waits, in ms of the sweep, whatever it reads meanwhile. */
  #since = 0;
  /** How many 102s were sent since, while the client waits for the head of a response. */
  #probeCount = 0;

  /** The client ends its side, or one that has done so gets its next request served. */
  begin(nowMs: number): void {
    this.#since = nowMs;
    this.#probeCount = 0;
  }

  /** Whether the response may still be waited for. Sends a 102 if one is due. */
  mayWait(incoming: IncomingRequest, nowMs: number): boolean {
    const waitedMs = nowMs - this.#since;
    if (waitedMs < HALF_CLOSE_MS) return true;
    if (incoming.isResponding) return !incoming.isOpenEnded;
    const { minorVersion, upgrade } = incoming.head;
    if (minorVersion === 0 || upgrade !== undefined) return waitedMs < HALF_CLOSE_OLD_MS;
    const isDue = waitedMs >= (this.#probeCount + 1) * HALF_CLOSE_MS;
    if (isDue && this.#probeCount < HALF_CLOSE_PROBES) {
      this.#probeCount += 1;
      incoming.writeInterim(PROCESSING);
    }
    return true;
  }
}
