/**
 * Where a connection reads to. Idle and small ones share one buffer, from which each piece is
 * copied; a connection whose reads fill it gets buffers of its own, which are handed on as they are:
 * copying a large body would cost more than allocating.
 */

/** As large as one read gets. A larger one saves system calls for bodies of megabytes only. In bytes. */
const READ_BYTES = 65_536;

/** To be shared by connections of one thread: a read is looked at before the next one begins. */
export function createSharedReadBuffer(): Buffer {
  return Buffer.allocUnsafeSlow(READ_BYTES);
}

export class ReadBuffers {
  readonly #shared: Buffer;
  #current: Buffer;

  constructor(shared: Buffer) {
    this.#shared = shared;
    this.#current = shared;
  }

  /** Where the next read goes. */
  get current(): Buffer {
    return this.#current;
  }

  /** After a read: `isMoreExpected` if it was part of a body that goes on. */
  prepare(readBytes: number, isMoreExpected: boolean): void {
    const isLarge = isMoreExpected && readBytes > this.#current.length / 2;
    if (!isLarge) this.#current = this.#shared;
    else if (this.#current === this.#shared) this.#current = Buffer.allocUnsafeSlow(READ_BYTES);
  }

  /** That part of what was read into `bytes`, for the receiver to keep. */
  take(bytes: Buffer, start: number, end: number): Buffer {
    if (bytes === this.#shared) return copyOf(bytes, start, end);
    // Most of the buffer would be kept alive for a small part of it.
    if (end - start <= bytes.length / 2) return copyOf(bytes, start, end);
    if (bytes === this.#current) this.#current = this.#shared;
    return bytes.subarray(start, end);
  }
}

function copyOf(bytes: Buffer, start: number, end: number): Buffer {
  const copy = Buffer.allocUnsafe(end - start);
  bytes.copy(copy, 0, start, end);
  return copy;
}
