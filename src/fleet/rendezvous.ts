/**
 * Rendezvous hashing (Thaler and Ravishankar, 1998): each Machine computes the same winner for a key
 * without a message, and a Machine that joins or leaves changes only the keys that it wins.
 */
import { hash } from 'node:crypto';
import type { MachineId, SessionKey } from '../session.ts';

/** The higher one wins: the first 48 bits of a SHA-256, so every version computes the same. */
export function rendezvousRank(key: SessionKey, machine: MachineId): number {
  return parseInt(hash('sha256', `${key} ${machine}`, 'hex').slice(0, RANK_HEX_DIGITS), 16);
}

const RANK_HEX_DIGITS = 12;

/** The winner among these Machines, independent of their order; undefined if there are none. */
export function rendezvousWinner(
  key: SessionKey,
  machines: Iterable<MachineId>,
): MachineId | undefined {
  let winner: MachineId | undefined;
  let highest = -1;
  for (const machine of machines) {
    const rank = rendezvousRank(key, machine);
    const isHigher =
      rank > highest || (rank === highest && winner !== undefined && machine < winner);
    if (!isHigher) continue;
    winner = machine;
    highest = rank;
  }
  return winner;
}
