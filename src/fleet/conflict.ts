/** Two Machines own one key: which of them keeps it, and how the other lets go. */
import type { MachineId, SessionKey } from '../affinity/session.ts';
import type { SessionStore } from '../store/store.ts';
import type { Claim } from './messages.ts';

export interface Claimant extends Claim {
  readonly machine: MachineId;
}

/**
 * Whether `one` keeps the key against `other`. Both Machines reckon with the same two claims, so
 * they come to the same result without asking anybody. In this order:
 *
 * 1. The higher generation: a rebinding follows evidence that the older owner is gone.
 * 2. Learned before adopted. The app of the one minted the id, so it has the session; the other's
 *    app only let the id pass. A client can bring about the second at a Machine of its choice (by a
 *    forged hint), and must not thereby take the session from the first (invariant 4), whatever the
 *    clocks say.
 * 3. The earlier binding. Clocks of different Machines: fair only roughly, but agreed on.
 * 4. The smaller Machine id.
 */
export function outranks(one: Claimant, other: Claimant): boolean {
  if (one.generation !== other.generation) return one.generation > other.generation;
  if (one.origin !== other.origin) return one.origin === 'learned';
  if (one.createdAt !== other.createdAt) return one.createdAt < other.createdAt;
  return one.machine < other.machine;
}

/**
 * Lets go of a key that another Machine keeps: our binding is dropped, the winner's is kept as a
 * copy. Rejects with the store's error; our binding may then still be there.
 */
export async function yieldTo(
  store: SessionStore,
  self: MachineId,
  key: SessionKey,
  winner: Pick<Claimant, 'machine' | 'generation' | 'ttlMs'>,
): Promise<void> {
  const { machine, generation, ttlMs } = winner;
  // Both in one turn: no lookup comes between them and finds the key free to be claimed.
  await Promise.all([
    store.delete(key, self),
    store.upsert({ key, machine, origin: 'copied', generation, ttlMs }),
  ]);
}
