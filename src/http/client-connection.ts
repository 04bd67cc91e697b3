/**
 * A client's connection: serves requests, or is a tunnel, and closes so that the client gets all of its last
 * response.
 *
 *   SERVING ─101─> TUNNEL ─over, bytes are left─> LINGER
 *      │ └─last response is written─> LINGER (half-closed, discards at most 8 MB or 3 s) ─> CLOSED
 *      └─no request is in flight─> LINGER
 *
 * `served-requests.ts` serves the requests.
 */
import type { Socket } from 'node:net';
import type { BufferAccount } from './buffers.ts';
import { LINGER_BYTES, LINGER_MS } from './limits.ts';
import { PausableReads, type TunnelEnd } from './socket.ts';
import { ServedRequests, type ServedRequestsOptions } from './served-requests.ts';
import type { ServingConnection, TunnelledConnection } from './request-connection.ts';
import { StallWatch } from './request-timeouts.ts';
import type { Sweepable } from './sweep.ts';
import { ClientEnd } from './tunnel.ts';

/** What the connections of one listener share. */
export interface ListenerContext extends ServedRequestsOptions {
  /** Every connection that is open. */
  readonly connections: Set<ClientConnection>;
  readonly isEnding: () => boolean;
  readonly onClosed: (connection: ClientConnection) => void;
  /** An exception in handling a connection. It has ended that connection and nothing else. */
  readonly onFault: (error: unknown) => void;
}

type State = 'serving' | 'tunnel' | 'linger' | 'closed';

export class ClientConnection implements ServingConnection, TunnelledConnection, Sweepable {
  readonly socket: Socket;
  readonly reads: PausableReads;
  sweepIndex = -1;
  readonly #context: ListenerContext;
  readonly #account: BufferAccount;
  readonly #requests: ServedRequests;
  readonly #stall: StallWatch;
  #state: State = 'serving';
  #tunnel: ClientEnd | undefined;
  #hasEnded = false;
  /** When it began to linger, in ms of the sweep. */
  #since = 0;
  #lingerBytes = 0;
  /** At the last look at a connection that ends not all of its response was written. */
  #hasUnwritten = false;

  constructor(socket: Socket, context: ListenerContext) {
    this.socket = socket;
    this.#context = context;
    context.connections.add(this);
    // The first item of the sweep sets the time, so add this one before others read it.
    context.sweep.add(this);
    this.#account = context.budget.open();
    this.#stall = new StallWatch(socket, context.sweep);
    this.#requests = new ServedRequests(this, context);
    socket.on('drain', () => this.guard(() => this.#canWrite()));
    socket.on('end', () => this.guard(() => this.#receiveEnd()));
    // What follows an error is 'close', which says all.
    socket.on('error', () => undefined);
    socket.on('close', (hadError: boolean) => this.guard(() => this.#closed(hadError)));
    this.reads = new PausableReads(socket, (bytes) => this.#receiveSafely(bytes));
  }

  get isEnding(): boolean {
    return this.#context.isEnding();
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** A request is in flight, a tunnel is open, or the client has not read all of a response. */
  get isBusy(): boolean {
    if (this.#requests.incoming !== undefined || this.#state === 'tunnel') return true;
    return this.socket.writableLength > 0 && !this.socket.destroyed;
  }

  /** Closes the connection if no request is in flight; otherwise that request is the last. */
  closeWhenIdle(): void {
    this.#requests.closeWhenIdle();
  }

  /** An exception from one connection ends that connection, and is reported (invariant 12). */
  guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#context.onFault(error);
    this.socket.destroy();
  }

  // Events of the socket

  #receiveSafely(bytes: Buffer): void {
    try {
      this.#receive(bytes);
    } catch (error) {
      this.#fail(error);
    }
  }

  #receive(bytes: Buffer): void {
    switch (this.#state) {
      case 'serving':
        this.#requests.receive(bytes);
        break;
      case 'tunnel':
        this.#tunnel?.onRead(bytes);
        break;
      case 'linger':
        this.#lingerBytes += bytes.length;
        if (this.#lingerBytes > LINGER_BYTES) this.socket.destroy();
        break;
      case 'closed':
        break;
    }
  }

  /** The client has ended its side; it may still read. */
  #receiveEnd(): void {
    this.#hasEnded = true;
    this.#since = this.#context.sweep.nowMs;
    if (this.#state === 'serving') this.#requests.onReadEnd();
    else if (this.#state === 'tunnel') this.#tunnel?.onReadEnd();
    else if (this.#state === 'linger') this.socket.destroySoon();
  }

  #canWrite(): void {
    this.account();
    this.#since = this.#context.sweep.nowMs;
    if (this.#state === 'serving') this.#requests.onWritable();
    else if (this.#state === 'tunnel') this.#tunnel?.onDrain();
  }

  #closed(hadError: boolean): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#context.sweep.remove(this);
    this.#account.set(0);
    this.#context.onClosed(this);
    this.reads.drop();
    this.#tunnel?.onClosed(hadError);
    this.#requests.onClosed();
  }

  // What requests and tunnels ask for

  pause(): void {
    this.reads.pause();
  }

  resume(): void {
    if (!this.reads.resume()) return;
    this.#since = this.#context.sweep.nowMs;
    this.#requests.timeouts.restart();
  }

  account(): void {
    const { writableLength } = this.socket;
    this.#account.set(writableLength + this.#requests.heldBytes + this.reads.overdueBytes);
  }

  linger(): void {
    this.#state = 'linger';
    this.#lingerBytes = 0;
    this.#since = this.#context.sweep.nowMs;
    this.account();
    this.socket.end();
    if (this.#hasEnded) this.socket.destroySoon();
    else this.resume();
  }

  closeSoon(): void {
    this.#state = 'linger';
    this.#since = this.#context.sweep.nowMs;
    this.socket.destroySoon();
  }

  openTunnel(upstream: TunnelEnd, kept: Buffer | undefined): TunnelEnd {
    const { sweep } = this.#context;
    this.#state = 'tunnel';
    const tunnel = new ClientEnd(this, upstream, sweep);
    this.#tunnel = tunnel;
    tunnel.open(kept);
    return tunnel;
  }

  onTunnelClosed(): void {
    this.#state = 'linger';
    this.#since = this.#context.sweep.nowMs;
    this.resume();
    this.socket.destroySoon();
  }

  // Timeouts

  checkTimeouts(nowMs: number): void {
    this.guard(() => this.#endOverdue(nowMs));
  }

  #endOverdue(nowMs: number): void {
    // The last bytes of a response leave the socket without an event.
    this.account();
    if (this.#state === 'serving') this.#requests.timeouts.check(nowMs);
    else if (this.#state === 'tunnel') this.#tunnel?.checkTimeouts(nowMs);
    else if (this.#state === 'linger') this.#endLingering(nowMs);
  }

  /** Waits for written bytes as before; then the client has some time to read them. */
  #endLingering(nowMs: number): void {
    if (this.socket.writableLength > 0) {
      this.#hasUnwritten = true;
      this.endStalled(nowMs);
    } else if (this.#hasUnwritten) {
      this.#hasUnwritten = false;
      this.#since = this.#context.sweep.nowMs;
    } else if (nowMs - this.#since >= LINGER_MS) this.socket.destroy();
  }

  endStalled(nowMs: number): void {
    const { stallTimeoutMs } = this.#context.limits;
    const stalledMs = this.#stall.stalledMs(nowMs);
    if (stallTimeoutMs > 0 && stalledMs >= stallTimeoutMs) this.socket.destroy();
  }
}
