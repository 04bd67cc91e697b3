/** Claims of Machines to a session key: which of two wins, and what the loser stores. */
import type { Binding, MachineId, SessionKey } from '../session.ts';
import type { SessionStore } from '../store/store.ts';
import { MAX_TTL_MS, type Claim } from './messages.ts';
import { rendezvousRank } from './rendezvous.ts';

export type Claimant = Claim & { readonly machine: MachineId };

/** The claim of a Machine to a binding of its own, with the time to live left. */
export function claimOf({ generation, origin, createdAt }: Binding, ttlMs: number): Claim {
  return {
    generation,
    origin: origin === 'learned' ? 'learned' : 'adopted',
    createdAt,
    ttlMs: Math.min(Math.max(Math.ceil(ttlMs), 1), MAX_TTL_MS),
  };
}

/** Clocks lag after a suspend: two claims count as simultaneous within the same ten seconds. */
export const SIMULTANEOUS_MS = 10_000;

/**
 * Whether `one` keeps the key against `other` (invariant 13). Every Machine computes it from the same
 * claims, so all come to the same result without a message. It is a strict total order, so the order in
 * which claims arrive does not matter. An accepted claim wins over a pending one: a request alone, which
 * anyone may send, takes no session from anybody (invariant 2). Then, in this order:
 *
 * 1. The higher generation: a rebinding follows evidence that the older owner is gone.
 * 2. `learned` before `adopted`. The app that minted the id has the session; the other app only
 *    accepted the id. With a forged hint a client can bring about an adopted binding on a Machine of its
 *    choice, and must not take the session away with it (invariant 4), whatever the clocks say.
 * 3. The earlier binding, by whole ten seconds. The numbers of the periods are compared, not the
 *    difference: "less than ten seconds apart" is not transitive.
 * 4. The higher rendezvous rank: the Machine where placement puts the key anyway.
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
 * Releases a key to the Machine that keeps it: removes the binding of `loser` and stores a copy of the
 * winner's with its generation, age and time left. Rejects with the store's error; the binding of the
 * loser may then still be there.
 */
export async function releaseTo(
  store: Pick<SessionStore, 'delete' | 'upsert'>,
  loser: MachineId,
  key: SessionKey,
  winner: Claimant,
): Promise<void> {
  // Both in one turn, so that no lookup between them finds the key free to be claimed.
  await Promise.all([store.delete(key, loser), storeCopy(store, key, winner)]);
}

/** Stores the claim of another Machine. */
export async function storeCopy(
  store: Pick<SessionStore, 'upsert'>,
  key: SessionKey,
  { machine, generation, createdAt, ttlMs }: Claimant,
): Promise<void> {
  await store.upsert({ key, machine, origin: 'copied', generation, createdAt, ttlMs });
}
