/** Notices a client that reads no byte of its response. */
import type { Socket } from 'node:net';
import type { Sweep } from './sweep.ts';

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
