/**
 * Where connections read to. Small reads share one buffer, and what they bring is copied out of it.
 * A connection whose reads are large gets buffers of its own, which are handed on as they are and
 * come back when the receiver is done with them: a new one for each read keeps the collector of
 * garbage busier than the relaying of the bytes does.
 *
 *   shared --a large read, and more to come--> own --handed on--> the receiver's
 *     ^------------- a small read -------------'|                      | release
 *                                               '<-- free <------------'
 */
import type { AnswerSink } from '../proxy/upstream.ts';

/** As large as one read gets. In bytes. */
const READ_BYTES = 65_536;
/** As many as are kept for later; 2 MB. */
const MAX_FREE = 32;

/** To be shared by connections of one thread: a read is looked at before the next one begins. */
export class BufferPool {
  readonly shared = Buffer.allocUnsafeSlow(READ_BYTES);
  readonly #free: Buffer[] = [];

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(READ_BYTES);
  }

  giveBack(buffer: Buffer): void {
    if (this.#free.length < MAX_FREE) this.#free.push(buffer);
  }
}

/** The buffers of one connection. */
export class ReadBuffers {
  readonly #pool: BufferPool;
  #current: Buffer;

  constructor(pool: BufferPool) {
    this.#pool = pool;
    this.#current = pool.shared;
  }

  /** Where the next read goes. */
  get current(): Buffer {
    return this.#current;
  }

  /** After a read: `isMoreExpected` if it was part of a body that goes on. */
  prepare(readBytes: number, isMoreExpected: boolean): void {
    const { shared } = this.#pool;
    const isLarge = isMoreExpected && readBytes > READ_BYTES / 2;
    if (isLarge && this.#current === shared) this.#current = this.#pool.take();
    if (isLarge || this.#current === shared) return;
    this.#pool.giveBack(this.#current);
    this.#current = shared;
  }

  /** Hands on that part of what was read into `bytes`. */
  handOn(bytes: Buffer, start: number, end: number, sink: AnswerSink): void {
    // A small part would keep the whole buffer alive.
    if (bytes !== this.#current || bytes === this.#pool.shared || end - start <= READ_BYTES / 2) {
      sink.onData(copyOf(bytes, start, end));
      return;
    }
    this.#current = this.#pool.shared;
    sink.onData(bytes.subarray(start, end), this.#releaseOnce(bytes));
  }

  #releaseOnce(buffer: Buffer): () => void {
    let lent: Buffer | undefined = buffer;
    return () => {
      if (lent) this.#pool.giveBack(lent);
      lent = undefined;
    };
  }
}

function copyOf(bytes: Buffer, start: number, end: number): Buffer {
  const copy = Buffer.allocUnsafe(end - start);
  bytes.copy(copy, 0, start, end);
  return copy;
}
