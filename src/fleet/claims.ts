/** Two Machines own one key: which of them keeps it, and what the other stores then. */
import type { MachineId, SessionKey } from '../session.ts';
import type { SessionStore } from '../store/store.ts';
import type { Claim } from './messages.ts';
import { rendezvousRank } from './rendezvous.ts';

export interface Claimant extends Claim {
  readonly machine: MachineId;
}

/** Clocks lag after a suspend: two claims count as simultaneous within the same ten seconds. */
export const SIMULTANEOUS_MS = 10_000;

/**
 * Whether `one` keeps the key against `other` (invariant 13). Every Machine computes it from the same
 * claims, so all come to the same result without asking anybody. It is a strict total order, so the
 * result does not depend on who hears of whom first. What an app has accepted goes before what one is
 * merely asked for: asking, which anyone may do for as long as they like, takes no session from anybody
 * (invariant 2). Then, in this order:
 *
 * 1. The higher generation: a rebinding follows evidence that the older owner is gone.
 * 2. Learned before adopted. The app of the one minted the id, so it has the session; the other's
 *    app only let the id pass. A client can bring about the second at a Machine of its choice (by a
 *    forged hint), and must not thereby take the session from the first (invariant 4), whatever the
 *    clocks say.
 * 3. The earlier binding, by whole ten seconds. Compared is the number of the period, not the
 *    difference: "less than ten seconds apart" is not transitive.
 * 4. The higher rendezvous rank: where the Machines place new sessions anyway.
 * 5. The smaller Machine id.
 */
export function outranks(key: SessionKey, one: Claimant, other: Claimant): boolean {
  if (one.isPending !== other.isPending) return other.isPending === true;
  if (one.generation !== other.generation) return one.generation > other.generation;
  if (one.origin !== other.origin) return one.origin === 'learned';
  const [period, otherPeriod] = [periodOf(one), periodOf(other)];
  if (period !== otherPeriod) return period < otherPeriod;
  const rank = rendezvousRank(key, one.machine);
  const otherRank = rendezvousRank(key, other.machine);
  if (rank !== otherRank) return rank > otherRank;
  return one.machine < other.machine;
}

function periodOf({ createdAt }: Claimant): number {
  return Math.floor(createdAt / SIMULTANEOUS_MS);
}

/**
 * Releases a key to the Machine that keeps it: the binding of `loser` is removed, and the winner's is
 * kept as a copy with its generation, age and remaining life. Rejects with the store's error; the
 * loser's binding may then still be there.
 */
export async function releaseTo(
  store: Pick<SessionStore, 'delete' | 'upsert'>,
  loser: MachineId,
  key: SessionKey,
  winner: Claimant,
): Promise<void> {
  // Both in one turn: no lookup comes between them and finds the key free to be claimed.
  await Promise.all([store.delete(key, loser), storeCopy(store, key, winner)]);
}

/** Stores what its owner says of a key. */
export async function storeCopy(
  store: Pick<SessionStore, 'upsert'>,
  key: SessionKey,
  { machine, generation, createdAt, ttlMs }: Claimant,
): Promise<void> {
  await store.upsert({ key, machine, origin: 'copied', generation, createdAt, ttlMs });
}
