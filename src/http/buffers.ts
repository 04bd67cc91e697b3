/** Memory for bytes in transit: where upstream connections read to, and how much all connections hold. */
import type { BufferOwnership } from './socket.ts';

/** Size of the shared buffer, and the most that a slow client leaves in memory. */
const SHARED_BYTES = 65_536;
const OWN_BYTES = 131_072;
/** How many connections may have a buffer of their own at one time. */
const MAX_OWN = 64;
/** Buffers that are kept for later. */
const MAX_KEPT = 16;

/**
 * Where upstream connections read to. Small reads share one buffer, whose bytes are copied out before
 * the next read. A connection that carries a large body gets a buffer of its own from a capped pool:
 * it is written to the client as it is, and read into again once the client's socket has written all.
 *
 *   shared ─a full read, and more to come─> own ─the body has ended─> pool
 */
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

/** The buffer that one connection reads into: the shared one, or one of its own. */
export class ConnectionBuffer {
  readonly #buffers: ReadBuffers;
  #own: Buffer | undefined;

  constructor(buffers: ReadBuffers) {
    this.#buffers = buffers;
  }

  /** Where the next read goes. */
  get next(): Buffer {
    return this.#own ?? this.#buffers.shared;
  }

  ownershipOf(bytes: Buffer): BufferOwnership {
    if (bytes === this.#own) return 'lent';
    return bytes === this.#buffers.shared ? 'shared' : 'kept';
  }

  /** A body whose reads are full gets a larger buffer of its own. */
  adaptTo(readBytes: number): void {
    if (this.#own === undefined && readBytes >= this.#buffers.shared.length) {
      this.#own = this.#buffers.take();
    }
  }

  /** The body has ended. `isInUse`: a socket may still write from the buffer. */
  giveBack(isInUse: boolean): void {
    if (this.#own === undefined) return;
    this.#buffers.giveBack(this.#own, isInUse);
    this.#own = undefined;
  }
}

/**
 * Counts the bytes that all connections hold: bytes that were received and not processed yet, and bytes
 * that a slow peer has not read. Over the limit, new requests get a 503, so that slow peers can't use up
 * the memory.
 */
export class BufferBudget {
  readonly #limitBytes: number;
  #heldBytes = 0;
  #reservedBytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /**
   * Reserves bytes for what is held by choice: half of the budget at most is used for that. False: it may not be
   * held. {@link giveBack} ends the reservation.
   */
  reserve(bytes: number): boolean {
    const wanted = this.#reservedBytes + bytes;
    if (2 * Math.max(wanted, this.#heldBytes + bytes) > this.#limitBytes) return false;
    this.#reservedBytes = wanted;
    return true;
  }

  giveBack(bytes: number): void {
    this.#reservedBytes -= bytes;
  }

  get isExhausted(): boolean {
    return this.#heldBytes > this.#limitBytes;
  }

  /** Opens an account for one connection. */
  open(): BufferAccount {
    return new BufferAccount(this);
  }

  add(bytes: number): void {
    this.#heldBytes += bytes;
  }
}

export class BufferAccount {
  readonly #budget: BufferBudget;
  #held = 0;

  constructor(budget: BufferBudget) {
    this.#budget = budget;
  }

  /** What the connection holds now, in bytes. */
  set(bytes: number): void {
    if (bytes === this.#held) return;
    this.#budget.add(bytes - this.#held);
    this.#held = bytes;
  }
}

/*
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
