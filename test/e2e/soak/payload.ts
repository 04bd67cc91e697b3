/**
 * The bytes of all bodies. The seed and the offset determine each of them, so that both ends know
 * the correct bytes, and a byte that is lost, doubled or swapped is detected.
 */
import { seededRandom } from '../support/seeded-random.ts';

/** A prime: swapped pieces of common sizes do not look the same. */
const BLOCK_BYTES = 65_537;
const BLOCK = createBlock();

function createBlock(): Buffer {
  const random = seededRandom(BLOCK_BYTES);
  return Buffer.from(Uint8Array.from({ length: BLOCK_BYTES }, () => random() * 256));
}

/** `length` bytes of the payload of that seed, from `offset` on. */
export function payload(seed: number, length: number, offset = 0): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let at = 0;
  while (at < length) {
    at += BLOCK.copy(bytes, at, (seed + offset + at) % BLOCK_BYTES);
  }
  return bytes;
}

/** Compares the received bytes, piece by piece, with the sent ones. */
export class PayloadCheck {
  readonly #seed: number;
  #bytes = 0;

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Returns the offset of the first byte that is wrong; undefined if none is. */
  take(piece: Buffer): number | undefined {
    const expected = payload(this.#seed, piece.length, this.#bytes);
    const start = this.#bytes;
    this.#bytes += piece.length;
    if (piece.equals(expected)) return undefined;
    return start + piece.findIndex((byte, at) => byte !== expected[at]);
  }
}
