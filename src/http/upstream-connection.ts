/**
 * A connection to an upstream. It carries one request at a time, and is reused only if the last one ended
 * cleanly.
 *
 *   CONNECTING ─> CARRYING ─free─> IDLE ─assigned─> CARRYING
 *                  │   │ └─free, bytes of the request are left─> FLUSHING ─all written─> IDLE
 *                  │   └─101─> TUNNEL
 *                  └─ error, end, abort, unrequested bytes: from any ─> CLOSED
 *
 * `carried-request.ts` says when the connection is free.
 */
import type { BufferAccount, BufferBudget } from './buffers.ts';
import {
  CarriedRequest,
  type CarriedRequestOptions,
  type CarryingConnection,
} from './carried-request.ts';
import { UNWRITTEN_REST_MS } from './limits.ts';
import { UpstreamSocket, type SocketOwner } from './socket.ts';
import type { Sweepable } from './sweep.ts';
import { UpstreamEnd } from './tunnel.ts';
import type { UpstreamRequest, UpstreamTunnel } from './upstream-request.ts';

/** What the connections of one pool share. */
export interface PoolContext extends CarriedRequestOptions {
  readonly budget: BufferBudget;
  readonly connectTimeoutMs: number;
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

type State = 'connecting' | 'carrying' | 'flushing' | 'idle' | 'tunnel' | 'closed';

export class UpstreamConnection implements CarryingConnection, SocketOwner, Sweepable {
  readonly socket: UpstreamSocket;
  readonly account: BufferAccount;
  sweepIndex = -1;
  /** When it became idle, and until when it may be used again, in ms. */
  idleSince = 0;
  idleUntil = 0;
  readonly #context: PoolContext;
  readonly #pool: ConnectionPool;
  readonly #carried: CarriedRequest;
  #state: State = 'connecting';
  #tunnel: UpstreamEnd | undefined;
  /** When it began to connect or to flush, in ms of the sweep. */
  #since: number;

  /** Connects, and sends the call's request as soon as that is done. */
  constructor(call: UpstreamRequest, context: PoolContext, pool: ConnectionPool) {
    this.#context = context;
    this.#pool = pool;
    // The first item of the sweep sets the time, so read it after adding this one.
    context.sweep.add(this);
    this.#since = context.sweep.nowMs;
    this.account = context.budget.open();
    const socket = new UpstreamSocket(this);
    this.socket = socket;
    this.#carried = new CarriedRequest(this, context);
    this.#carried.begin(call, true);
    socket.on('connect', () => this.#guarded(() => this.#connected()));
    socket.on('drain', () => this.#guarded(() => this.#canWrite()));
    // What follows an error is 'close', and `errored` says what it was.
    socket.on('error', () => undefined);
    socket.on('close', (hadError: boolean) => this.#guarded(() => this.#closed(hadError)));
    const address = context.address();
    if (address) socket.connect(address);
    else socket.destroy(new Error('the address of the peer is not known'));
  }

  get isIdle(): boolean {
    return this.#state === 'idle' && !this.socket.destroyed;
  }

  /** The value of `Keep-Alive` in its last response. */
  get keepAlive(): string | undefined {
    return this.#carried.response.keepAlive;
  }

  /** Takes the connection for a call; {@link send} sends its request. */
  assign(call: UpstreamRequest): void {
    this.#state = 'carrying';
    this.#carried.begin(call, false);
  }

  send(): void {
    this.#carried.send();
  }

  /** As {@link send}, but after the call that began the request has returned: a failure goes to the receiver. */
  sendLate(): void {
    this.#guarded(() => this.#carried.sendLate());
  }

  carries(call: UpstreamRequest): boolean {
    return this.#carried.call === call;
  }

  /** It is not needed any more. */
  abort(): void {
    this.#carried.abort();
  }

  /** The pool is closing. */
  close(): void {
    this.#guarded(() => this.#carried.fail('closed', 'the sidecar is stopping'));
  }

  // What becomes of it after its request

  onFree(): void {
    if (this.socket.destroyed) this.destroy();
    else if (this.socket.writableLength === 0) this.#becomeIdle();
    else {
      // The app may still read the rest of the request. The next request must wait until it is sent.
      this.#state = 'flushing';
      this.#since = this.#context.sweep.nowMs;
    }
  }

  #becomeIdle(): void {
    this.#state = 'idle';
    this.socket.resumeReads();
    this.#pool.onFree(this);
  }

  onLost(): void {
    this.#pool.onLost();
  }

  destroy(): void {
    this.#state = 'closed';
    this.socket.destroy();
  }

  openTunnel(): UpstreamTunnel {
    this.#state = 'tunnel';
    this.#tunnel = new UpstreamEnd(this.socket, this.#context.sweep);
    return this.#tunnel;
  }

  // Events of the socket

  nextBuffer(): Buffer {
    return this.#carried.response.buffer.next;
  }

  onRead(length: number, bytes: Buffer): void {
    const { call } = this.#carried;
    try {
      this.#read(bytes, length);
    } catch (error) {
      this.#fault(error, call);
    }
  }

  #read(bytes: Buffer, length: number): void {
    switch (this.#state) {
      case 'carrying':
        this.#carried.read(bytes, length);
        break;
      case 'tunnel':
        this.#tunnel?.onRead(bytes, length, this.#carried.response.buffer.ownershipOf(bytes));
        break;
      case 'connecting':
      case 'idle':
      case 'flushing':
        // A response to nothing must not be taken for the next request's (RFC 9112 §9.3).
        this.destroy();
        break;
      case 'closed':
        break;
    }
  }

  onReadEnd(): void {
    this.#guarded(() => {
      if (this.#tunnel) this.#tunnel.onReadEnd();
      else this.#carried.onReadEnd();
    });
  }

  onWriteFailed(): boolean {
    const mayReadOn = this.#state === 'carrying' && this.#carried.mayReceive;
    if (mayReadOn) this.#guarded(() => this.#carried.onWriteFailed());
    return mayReadOn;
  }

  #connected(): void {
    this.#context.onDialled('connected');
    if (this.#state !== 'connecting') return;
    this.#state = 'carrying';
    this.#carried.sendLate();
  }

  #canWrite(): void {
    this.account.set(this.socket.writableLength);
    if (this.#tunnel) this.#tunnel.onDrain();
    else if (this.#state === 'flushing') this.onFree();
    else this.#carried.onWritable();
  }

  #closed(hadError: boolean): void {
    const state = this.#state;
    this.#state = 'closed';
    this.account.set(0);
    this.#context.sweep.remove(this);
    this.#carried.response.buffer.giveBack(true);
    // The receiver of the next call may send again, or throw.
    this.#pool.onClosed(this);
    const error = this.socket.errored ?? undefined;
    if (state === 'connecting') {
      this.#context.onDialled('failed');
      this.#carried.fail('connect-failed', 'no connection to the upstream', error);
    } else if (this.#tunnel) this.#tunnel.onClosed(hadError);
    else this.#carried.fail('connection-lost', 'the connection to the upstream failed', error);
  }

  // Faults and timeouts

  /** An exception ends this connection and its request, and is reported. */
  #guarded(step: () => void): void {
    const { call } = this.#carried;
    try {
      step();
    } catch (error) {
      this.#fault(error, call);
    }
  }

  /** `call` was in flight when the step that has thrown began. The connection may have released it since. */
  #fault(error: unknown, call: UpstreamRequest | undefined): void {
    this.#context.onFault(error);
    this.abort();
    call?.sink.onFault();
  }

  checkTimeouts(nowMs: number): void {
    this.#guarded(() => this.#endOverdue(nowMs));
  }

  #endOverdue(nowMs: number): void {
    const { connectTimeoutMs } = this.#context;
    // The last bytes of a request leave the socket without an event.
    this.account.set(this.socket.writableLength);
    switch (this.#state) {
      case 'connecting':
        if (connectTimeoutMs === 0 || nowMs - this.#since < connectTimeoutMs) break;
        this.#context.onDialled('failed');
        this.#carried.fail('connect-timeout', 'the upstream did not accept the connection in time');
        break;
      case 'carrying':
        this.#carried.endOverdue(nowMs);
        break;
      case 'idle':
        if (nowMs >= this.idleUntil) this.destroy();
        break;
      case 'flushing':
        if (this.socket.writableLength === 0) this.onFree();
        else if (nowMs - this.#since >= UNWRITTEN_REST_MS) this.destroy();
        break;
      case 'tunnel':
        this.#tunnel?.checkTimeouts(nowMs);
        break;
      case 'closed':
        break;
    }
  }
}
