/**
 * Merges exported sessions into a store, without taking anything from the sessions that are there.
 *
 * A binding of a higher generation stays, whatever its owner. So does one of the same generation:
 * with another owner as it is, with the same owner until the later of the two expiries. Merging twice
 * changes nothing.
 */
import type { Binding, MachineId, SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import { retry } from '../resilience.ts';
import { EVICTION_ORDER, StoreError, type SessionStore } from '../store/store.ts';

/** `alreadyThere`: the same, or a newer state of it. `conflicts`: another Machine owns it. */
export type MergeOutcome = 'imported' | 'alreadyThere' | 'expired' | 'conflicts';
export type MergeCounts = Readonly<Record<MergeOutcome, number>>;

export interface MergeParts {
  readonly store: Pick<SessionStore, 'lookup' | 'upsert'>;
  readonly clock: Clock;
  readonly random: () => number;
  /** Reports what would be done, and does nothing. */
  readonly isDryRun: boolean;
  readonly onSessionChanged?: OnSessionChanged | undefined;
  /** After it aborts, nothing is retried. */
  readonly signal?: AbortSignal;
}

/**
 * An operator has changed the owner of a session. `from`: undefined if the store could not tell; `to`:
 * undefined if the session was deleted.
 */
export type OnSessionChanged = (
  key: SessionKey,
  from: MachineId | undefined,
  to: MachineId | undefined,
) => void;

export const NOTHING_MERGED: MergeCounts = {
  imported: 0,
  alreadyThere: 0,
  expired: 0,
  conflicts: 0,
};

/** A database that restarts or fails over is back after some seconds. */
export const MERGE_RETRIES = { retryCount: 8, delayMs: 200, maxDelayMs: 5_000 } as const;
/**
 * Two expiries closer than this are the same: a shared database has a clock of its own, and what it
 * returns is off by the round trip.
 */
const SAME_EXPIRY_MS = 1_000;

/**
 * Merges all of them at once, so no key may be there twice. Rejects with a {@link StoreError} if one
 * of them fails after some retries; the others are done by then.
 */
export async function mergeSessions(
  bindings: readonly Binding[],
  parts: MergeParts,
): Promise<MergeCounts> {
  const retries = { ...MERGE_RETRIES, isRetryable: isPassing, ...parts };
  const results = await Promise.allSettled(
    bindings.map((binding) => retry(() => merge(binding, parts), retries)),
  );
  const counts = { ...NOTHING_MERGED };
  for (const result of results) {
    if (result.status === 'rejected') throw result.reason;
    counts[result.value] += 1;
  }
  return counts;
}

export function isPassing(error: unknown): boolean {
  return error instanceof StoreError && error.code === 'passing';
}

export function addCounts(one: MergeCounts, other: MergeCounts): MergeCounts {
  return {
    imported: one.imported + other.imported,
    alreadyThere: one.alreadyThere + other.alreadyThere,
    expired: one.expired + other.expired,
    conflicts: one.conflicts + other.conflicts,
  };
}

async function merge(exported: Binding, parts: MergeParts): Promise<MergeOutcome> {
  const { store, clock, isDryRun, onSessionChanged } = parts;
  if (exported.expiresAt <= clock.now()) return 'expired';
  const result = await store.lookup(exported.key);
  if (result === 'unknown') {
    throw new StoreError('passing', 'the session store is not available');
  }
  const found = result === 'absent' ? undefined : result;
  const outcome = outcomeOf(exported, found);
  if (outcome !== 'imported' || isDryRun) return outcome;
  // The later expiry also stays when the session moves to another Machine.
  const expiresAt = Math.max(exported.expiresAt, found?.expiresAt ?? 0);
  const after = await store.upsert({ ...exported, ttlMs: Math.max(expiresAt - clock.now(), 1) });
  if (after.machine !== exported.machine) return 'conflicts';
  const isMoved = found !== undefined && found.machine !== after.machine;
  if (isMoved) onSessionChanged?.(exported.key, found.machine, after.machine);
  return after.generation === exported.generation ? 'imported' : 'alreadyThere';
}

function outcomeOf(exported: Binding, found: Binding | undefined): MergeOutcome {
  if (found === undefined || found.generation < exported.generation) return 'imported';
  if (found.machine !== exported.machine) return 'conflicts';
  if (found.generation > exported.generation) return 'alreadyThere';
  const isLater = exported.expiresAt - found.expiresAt >= SAME_EXPIRY_MS;
  return isLater || isStronger(exported, found) ? 'imported' : 'alreadyThere';
}

/** An owner's own binding has more information than the copy that it sent to a peer. */
function isStronger(exported: Binding, found: Binding): boolean {
  return EVICTION_ORDER.indexOf(exported.origin) > EVICTION_ORDER.indexOf(found.origin);
}
