/**
 * Bytes of one connection that were received and can't be parsed yet, in one buffer that grows by doubling:
 * the beginning of a head, or what follows a request.
 */
const MIN_GROWN_BYTES = 1_024;

export class UnparsedBytes {
  #buffer: Buffer | undefined;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  get isEmpty(): boolean {
    return this.#length === 0;
  }

  /** All of them. They stay valid after {@link drop}. */
  get all(): Buffer | undefined {
    return this.#buffer?.subarray(0, this.#length);
  }

  /** Adds bytes that nobody changes any more; returns all. */
  append(bytes: Buffer): Buffer {
    const length = this.#length + bytes.length;
    if (this.#buffer === undefined) this.#buffer = withoutItsSlab(bytes);
    else {
      if (this.#buffer.length < length) this.#grow(length);
      bytes.copy(this.#buffer, this.#length);
    }
    this.#length = length;
    return this.#buffer.subarray(0, length);
  }

  /** As {@link append}, for bytes whose memory is read into again. */
  appendCopy(bytes: Buffer): Buffer {
    return this.append(this.#buffer === undefined ? copyOf(bytes) : bytes);
  }

  drop(): void {
    this.#buffer = undefined;
    this.#length = 0;
  }

  #grow(length: number): void {
    const grown = Buffer.allocUnsafe(Math.max(2 * this.#length, length, MIN_GROWN_BYTES));
    this.#buffer?.copy(grown, 0, 0, this.#length);
    this.#buffer = grown;
  }
}

/** A slice of a few bytes would keep all memory of a large read, which the budget does not count. */
function withoutItsSlab(bytes: Buffer): Buffer {
  return 2 * bytes.length >= bytes.buffer.byteLength ? bytes : copyOf(bytes);
}

function copyOf(bytes: Buffer): Buffer {
  const own = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(own);
  return own;
}
