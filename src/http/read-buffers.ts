/**
 * Where upstream connections read to. Small reads share one buffer, whose bytes are copied out before
 * the next read. A connection that carries a large body gets a buffer of its own from a capped pool:
 * it is written to the client as it is, and read into again once the client's socket has taken all.
 *
 *   shared ─a full read, and more to come─> own ─the body has ended─> pool
 */

/** Of the shared buffer, in bytes: what a slow client can leave behind in memory at most. */
const SHARED_BYTES = 65_536;
const OWN_BYTES = 131_072;
/** Buffers of their own that connections may have at one time. */
const MAX_OWN = 64;
/** Buffers that are kept for later. */
const MAX_KEPT = 16;

export class ReadBuffers {
  readonly shared = Buffer.allocUnsafeSlow(SHARED_BYTES);
  readonly #kept: Buffer[] = [];
  #ownCount = 0;

  /** A buffer for one connection; undefined if there are too many already. */
  take(): Buffer | undefined {
    if (this.#ownCount === MAX_OWN) return undefined;
    this.#ownCount += 1;
    return this.#kept.pop() ?? Buffer.allocUnsafeSlow(OWN_BYTES);
  }

  /** `isInUse`: a socket has not written all of it yet, so it is left to the garbage collector. */
  giveBack(buffer: Buffer, isInUse: boolean): void {
    this.#ownCount -= 1;
    if (!isInUse && this.#kept.length < MAX_KEPT) this.#kept.push(buffer);
  }
}
