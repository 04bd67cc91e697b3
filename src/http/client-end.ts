/**
 * The client's end of a tunnel, from the 101 on.
 *
 *   opened ─> bytes both ways ─closeTunnel─> over: the connection lingers
 *        └─both sides have ended, or one broke─> closed
 */
import { HALF_CLOSED_TUNNEL_MS } from './limits.ts';
import type { TunnelledConnection } from './serving-connection.ts';
import { resetSocket, writeBytes, type BufferOwnership } from './socket.ts';
import type { Sweep } from './sweep.ts';
import type { TunnelEnd } from './tunnel.ts';

export class ClientEnd implements TunnelEnd {
  readonly #connection: TunnelledConnection;
  readonly #sweep: Pick<Sweep, 'nowMs'>;
  #upstream: TunnelEnd | undefined;
  #hasUpstreamEnded = false;
  /** When bytes or an end came last, in ms of the sweep. */
  #since: number;

  constructor(connection: TunnelledConnection, upstream: TunnelEnd, sweep: Pick<Sweep, 'nowMs'>) {
    this.#connection = connection;
    this.#upstream = upstream;
    this.#sweep = sweep;
    this.#since = sweep.nowMs;
  }

  /** `kept`: what the client has sent behind its request. */
  open(kept: Buffer | undefined): void {
    const connection = this.#connection;
    if (kept && this.#upstream?.write(kept, 0, kept.length, 'kept') === false) connection.pause();
    else connection.resume();
    if (connection.hasEnded) this.#upstream?.end();
  }

  // What the other end calls

  write(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean {
    this.#since = this.#sweep.nowMs;
    const mayGoOn = writeBytes(this.#connection.socket, '', bytes, start, end, ownership);
    if (!mayGoOn) this.#connection.account();
    return mayGoOn;
  }

  resume(): void {
    this.#since = this.#sweep.nowMs;
    this.#connection.resume();
  }

  end(): void {
    this.#hasUpstreamEnded = true;
    this.#since = this.#sweep.nowMs;
    this.#connection.socket.end();
    this.#closeIfEnded();
  }

  closeTunnel(resets: boolean): void {
    if (resets) resetSocket(this.#connection.socket);
    else this.#connection.onTunnelClosed();
  }

  // What the connection calls

  onRead(bytes: Buffer): void {
    if (this.#upstream?.write(bytes, 0, bytes.length, 'kept') === false) this.#connection.pause();
    this.#since = this.#sweep.nowMs;
  }

  onReadEnd(): void {
    this.#since = this.#sweep.nowMs;
    this.#upstream?.end();
    this.#closeIfEnded();
  }

  onDrain(): void {
    this.#since = this.#sweep.nowMs;
    this.#upstream?.resume();
  }

  onClosed(hadError: boolean): void {
    const upstream = this.#upstream;
    this.#upstream = undefined;
    upstream?.closeTunnel(hadError);
  }

  checkTimeouts(nowMs: number): void {
    const isHalf = this.#connection.hasEnded || this.#hasUpstreamEnded;
    const isOverdue = isHalf && nowMs - this.#since >= HALF_CLOSED_TUNNEL_MS;
    if (isOverdue) this.#connection.socket.destroy();
  }

  #closeIfEnded(): void {
    const { hasEnded, socket } = this.#connection;
    if (hasEnded && this.#hasUpstreamEnded) socket.destroySoon();
  }
}
