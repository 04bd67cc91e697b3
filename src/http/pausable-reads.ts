/** The reads of a client's socket. A read may still arrive after they were paused: it is delivered later. */
import type { Socket } from 'node:net';
import { readDirectly, resumeReads } from './socket.ts';

export class PausableReads {
  readonly #socket: Socket;
  readonly #onRead: (bytes: Buffer) => void;
  #isPaused = false;
  /** The read that arrived after the pause. */
  #overdue: Buffer | undefined;

  /** `onRead` must not throw. */
  constructor(socket: Socket, onRead: (bytes: Buffer) => void) {
    this.#socket = socket;
    this.#onRead = onRead;
    readDirectly(socket, (bytes) => this.#take(bytes));
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Received and not delivered. */
  get overdueBytes(): number {
    return this.#overdue?.length ?? 0;
  }

  pause(): void {
    this.#isPaused = true;
  }

  /** Whether they were paused. Delivers nothing within the call. */
  resume(): boolean {
    if (!this.#isPaused) return false;
    this.#isPaused = false;
    if (this.#overdue === undefined) resumeReads(this.#socket);
    else setImmediate(() => this.#takeOverdue());
    return true;
  }

  /** The socket is closed. */
  drop(): void {
    this.#overdue = undefined;
  }

  /** Whether to read on. */
  #take(bytes: Buffer): boolean {
    if (this.#isPaused) this.#overdue = bytes;
    else this.#onRead(bytes);
    return !this.#isPaused;
  }

  #takeOverdue(): void {
    const bytes = this.#overdue;
    if (this.#isPaused || bytes === undefined) return;
    this.#overdue = undefined;
    if (this.#take(bytes)) resumeReads(this.#socket);
  }
}
