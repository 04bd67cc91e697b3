/**
 * The upstream's end of a tunnel, from the 101 on.
 *
 *   opened ─join─> bytes both ways ─closeTunnel─> closing: what is written still goes out ─> closed
 *             └─both sides have ended, or one broke─> closed
 */
import { UNWRITTEN_REST_MS } from './limits.ts';
import { resetSocket, writeBytes, type BufferOwnership, type UpstreamSocket } from './socket.ts';
import type { Sweep } from './sweep.ts';
import type { TunnelEnd } from './tunnel.ts';
import type { UpstreamTunnel } from './upstream-request.ts';

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
