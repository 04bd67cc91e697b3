/**
 * A tunnel after a 101: the end of the client, the end of the upstream, and the pipe between them. Bytes go both
 * ways, with backpressure.
 */
import type { IncomingRequest } from './incoming-request.ts';
import { HALF_CLOSED_TUNNEL_MS, UNWRITTEN_REST_MS } from './limits.ts';
import type { TunnelledConnection } from './request-connection.ts';
import {
  resetSocket,
  writeBytes,
  type BufferOwnership,
  type TunnelEnd,
  type UpstreamSocket,
} from './socket.ts';
import type { Sweep } from './sweep.ts';
import type { UpstreamTunnel } from './upstream-request.ts';

/** An upstream may only switch to what it was asked for (RFC 9110 §7.8). */
export function isAskedFor(chosen: string | undefined, asked: string | undefined): boolean {
  if (chosen === undefined || asked === undefined) return false;
  const protocols = asked.toLowerCase().split(', ');
  return chosen
    .toLowerCase()
    .split(',')
    .every((protocol) => protocols.includes(protocol.trim()));
}

/**
 * The client's end of a tunnel, from the 101 on.
 *
 *   opened ─> bytes both ways ─closeTunnel─> over: the connection lingers
 *        └─both sides have ended, or one broke─> closed
 */
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

/**
 * The upstream's end of a tunnel, from the 101 on.
 *
 *   opened ─join─> bytes both ways ─closeTunnel─> closing: what is written still goes out ─> closed
 *             └─both sides have ended, or one broke─> closed
 */
export class UpstreamEnd implements UpstreamTunnel {
  readonly #socket: UpstreamSocket;
  readonly #sweep: Pick<Sweep, 'nowMs'>;
  #client: TunnelEnd | undefined;
  #hasEnded = false;
  #hasClientEnded = false;
  /** The tunnel is over. Written bytes may still go out. */
  #isClosing = false;
  /** When bytes or an end came last, in ms of the sweep. */
  #since: number;

  /** Nothing is read before it is joined. */
  constructor(socket: UpstreamSocket, sweep: Pick<Sweep, 'nowMs'>) {
    this.#socket = socket;
    this.#sweep = sweep;
    this.#since = sweep.nowMs;
    socket.pauseAfterRead();
  }

  // What the other end calls

  join(client: TunnelEnd): void {
    this.#client = client;
    this.#since = this.#sweep.nowMs;
    if (this.#hasEnded) client.end();
    if (this.#socket.destroyed) client.closeTunnel(this.#socket.errored !== null);
    else this.#socket.resumeReads();
  }

  write(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean {
    this.#since = this.#sweep.nowMs;
    return writeBytes(this.#socket, '', bytes, start, end, ownership);
  }

  resume(): void {
    this.#socket.resumeReads();
  }

  end(): void {
    this.#hasClientEnded = true;
    this.#since = this.#sweep.nowMs;
    this.#socket.end();
    if (this.#hasEnded) this.#socket.destroySoon();
  }

  closeTunnel(resets: boolean): void {
    this.#client = undefined;
    this.#isClosing = true;
    this.#since = this.#sweep.nowMs;
    if (resets) resetSocket(this.#socket);
    else this.#socket.destroySoon();
  }

  // What the connection calls

  onRead(bytes: Buffer, length: number, ownership: BufferOwnership): void {
    this.#since = this.#sweep.nowMs;
    if (this.#client?.write(bytes, 0, length, ownership) === false) this.#socket.pauseAfterRead();
  }

  onReadEnd(): void {
    this.#hasEnded = true;
    this.#client?.end();
    if (this.#hasClientEnded) this.#socket.destroySoon();
  }

  onDrain(): void {
    this.#since = this.#sweep.nowMs;
    this.#client?.resume();
  }

  onClosed(hadError: boolean): void {
    const client = this.#client;
    this.#client = undefined;
    client?.closeTunnel(hadError);
  }

  checkTimeouts(nowMs: number): void {
    if (this.#isClosing && nowMs - this.#since >= UNWRITTEN_REST_MS) this.#socket.destroy();
  }
}

/**
 * The tunnel of a request that asked for an upgrade. The client's bytes pass through it, so that the owner of
 * the pipe receives the end of the tunnel.
 */
export class PipeTunnel implements TunnelEnd {
  readonly #upstream: UpstreamTunnel;
  readonly #onClosed: () => void;
  #client: TunnelEnd | undefined;
  #isOpen = false;

  constructor(upstream: UpstreamTunnel, onClosed: () => void) {
    this.#upstream = upstream;
    this.#onClosed = onClosed;
  }

  /** `head` is the whole head of the 101, `rest` what has come behind it. */
  open(incoming: IncomingRequest, head: string, rest: Buffer): void {
    this.#isOpen = true;
    const client = incoming.openTunnel(head, this);
    if (!client) {
      this.closeTunnel(false);
      return;
    }
    this.#client = client;
    if (rest.length > 0) client.write(rest, 0, rest.length, 'kept');
    this.#upstream.join(client);
  }

  /** Closes the upstream's side. The owner gets no call. */
  abort(): void {
    this.#isOpen = false;
    this.#upstream.closeTunnel(false);
  }

  /** Closes the client's side. False: it is not part of the tunnel yet. */
  closeClient(): boolean {
    this.#client?.closeTunnel(false);
    return this.#client !== undefined;
  }

  // What the client's connection calls

  write(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean {
    return this.#upstream.write(bytes, start, end, ownership);
  }

  resume(): void {
    this.#upstream.resume();
  }

  end(): void {
    this.#upstream.end();
  }

  closeTunnel(resets: boolean): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#upstream.closeTunnel(resets);
    this.#onClosed();
  }
}
