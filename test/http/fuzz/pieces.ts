/** Ways to split bytes into packets. */
import type { Chance } from './chance.ts';

/** For inputs up to this size, in bytes, every split is tried. */
const SHORT_BYTES = 48;

/** Single bytes and random packets. For a short input also every split in two. */
export function* cutsOf(bytes: Buffer, chance: Chance): Generator<readonly Buffer[]> {
  yield randomPieces(bytes, chance);
  if (chance.happens(0.25)) yield piecesOf(bytes, () => 1);
  if (bytes.length > SHORT_BYTES) return;
  for (let at = 1; at < bytes.length; at += 1) yield [bytes.subarray(0, at), bytes.subarray(at)];
}

/** Small packets or large ones. */
export function randomPieces(bytes: Buffer, chance: Chance): Buffer[] {
  const most = chance.pick([3, 20, 200]);
  return piecesOf(bytes, () => chance.between(1, most));
}

function piecesOf(bytes: Buffer, nextLength: () => number): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + nextLength());
    pieces.push(bytes.subarray(at, end));
    at = end;
  }
  return pieces;
}
