/**
 * How a session that was exported enters a store: it takes nothing from those that live there.
 *
 * A binding of a higher generation stays, whoever has it, and so does one of the same generation, be
 * it this session's own, whose life is lengthened if the export knows a later end, or another
 * Machine's. Doing it again changes nothing.
 */
import type { Binding, MachineId, SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import { retry } from '../resilience.ts';
import { EVICTION_ORDER, StoreError, type SessionStore } from '../store/store.ts';

/**
 * What became of a session. `alreadyThere`: as it is here, or further on. `conflicts`: another
 * Machine has it.
 */
export type Merged = 'imported' | 'alreadyThere' | 'expired' | 'conflicts';
export type MergeCounts = Readonly<Record<Merged, number>>;

export interface MergeParts {
  readonly store: Pick<SessionStore, 'lookup' | 'upsert'>;
  readonly clock: Clock;
  readonly random: () => number;
  /** Says what would be done, and does nothing. */
  readonly isDryRun: boolean;
  readonly onSessionChanged?: OnSessionChanged | undefined;
  /** Once it aborts, nothing is tried again. */
  readonly signal?: AbortSignal;
}

/**
 * The owner of a session was changed on purpose. `from`: undefined if the store could not say; `to`:
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

/** A database that starts again or fails over is back after some seconds. */
export const MERGE_RETRIES = { retryCount: 8, delayMs: 200, maxDelayMs: 5_000 } as const;
/**
 * Two ends nearer to each other are the same: a shared database keeps time by its own clock, and what
 * comes back is off by the way there and back.
 */
const SAME_END_MS = 1_000;

/**
 * All at once, so there must be no key twice. Rejects with a {@link StoreError} if one of them can't
 * be done, after some tries; the others are done by then.
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

async function merge(stated: Binding, parts: MergeParts): Promise<Merged> {
  const { store, clock, isDryRun, onSessionChanged } = parts;
  if (stated.expiresAt <= clock.now()) return 'expired';
  const looked = await store.lookup(stated.key);
  if (looked === 'unknown') {
    throw new StoreError('passing', 'the store could not say whether it has a session');
  }
  const found = looked === 'absent' ? undefined : looked;
  const outcome = outcomeOf(stated, found);
  if (outcome !== 'imported' || isDryRun) return outcome;
  // Where it moves on to another Machine it keeps the later end too.
  const expiresAt = Math.max(stated.expiresAt, found?.expiresAt ?? 0);
  const after = await store.upsert({ ...stated, ttlMs: Math.max(expiresAt - clock.now(), 1) });
  if (after.machine !== stated.machine) return 'conflicts';
  const isMoved = found !== undefined && found.machine !== after.machine;
  if (isMoved) onSessionChanged?.(stated.key, found.machine, after.machine);
  return after.generation === stated.generation ? 'imported' : 'alreadyThere';
}

function outcomeOf(stated: Binding, found: Binding | undefined): Merged {
  if (found === undefined || found.generation < stated.generation) return 'imported';
  if (found.machine !== stated.machine) return 'conflicts';
  if (found.generation > stated.generation) return 'alreadyThere';
  const isLater = stated.expiresAt - found.expiresAt >= SAME_END_MS;
  return isLater || isStronger(stated, found) ? 'imported' : 'alreadyThere';
}

/** An owner's own word says more than what it has told another Machine. */
function isStronger(stated: Binding, found: Binding): boolean {
  return EVICTION_ORDER.indexOf(stated.origin) > EVICTION_ORDER.indexOf(found.origin);
}
