/**
 * Copies of bytes that a socket writes later, in memory that is used again: V8 counts each new buffer of this size as
 * garbage to come, and marked the whole heap once in a hundred responses of 1 MB.
 */
import type { Writable } from 'node:stream';

/** The longest copy, in bytes; longer ones get memory of their own. */
const COPY_BYTES = 65_536;
/** Slow clients may keep all of these: then each copy gets memory of its own, of just its length. */
const MAX_COPIES = 16;

export class Copies {
  readonly #free: Buffer[] = [];
  #count = 0;

  /** Writes what is in the bytes now. Returns what the stream says to that. */
  write(stream: Writable, bytes: Buffer): boolean {
    const memory = bytes.length <= COPY_BYTES ? this.#take() : undefined;
    if (memory === undefined) return stream.write(Buffer.from(bytes));
    bytes.copy(memory);
    // Called too if the stream is destroyed before it has written them.
    return stream.write(memory.subarray(0, bytes.length), () => this.#free.push(memory));
  }

  #take(): Buffer | undefined {
    const free = this.#free.pop();
    if (free !== undefined || this.#count === MAX_COPIES) return free;
    this.#count += 1;
    return Buffer.allocUnsafeSlow(COPY_BYTES);
  }
}
