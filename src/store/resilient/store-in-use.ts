/** An open store, with a circuit breaker for its reads and one for its writes. */
import type { Clock } from '../../clock.ts';
import { createCircuitBreaker, type CircuitBreaker } from '../../resilience.ts';
import type { MachineId, SessionKey } from '../../session.ts';
import { StoreError, type SessionStore } from '../store.ts';
import { withinTime } from '../time-limit.ts';

/** The callbacks of an opened store. */
export interface StoreHooks {
  /** Errors that no caller gets. */
  readonly onError: (error: StoreError) => void;
  /** A connection broke: writes that the store acknowledged may be lost. */
  readonly onDisrupted: () => void;
}

/** One use of the store by a request. The result of a use of a discarded store does not count. */
export interface StoreAttempt {
  readonly store: SessionStore;
  /** Whether a request may still use the store in that way. */
  isAllowed(): boolean;
  /** Whether the store was found damaged, and is or will be replaced by another. */
  isDiscarded(): boolean;
  succeeded(): void;
  failed(error?: unknown): void;
  /** It failed, which says nothing about other uses. */
  failedAlone(error: unknown): void;
}

export interface StoreInUse {
  readonly store: SessionStore;
  readonly reads: CircuitBreaker;
  readonly writes: CircuitBreaker;
  /** The store must be closed and opened again. */
  isDamaged: boolean;
}

export type Access = 'reads' | 'writes';

export interface BreakerParts {
  readonly clock: Clock;
  readonly random: () => number;
}

/** The first pause before a failed store is tried again; it doubles up to the last. */
export const FIRST_PAUSE_MS = 500;
export const MAX_PAUSE_MS = 10_000;
/** One read may be late for a reason of its own. A write has been retried already. */
const READ_FAILURES = 3;

export function createStoreInUse(store: SessionStore, parts: BreakerParts): StoreInUse {
  const reads = createStoreBreaker(parts, READ_FAILURES);
  return { store, reads, writes: createStoreBreaker(parts), isDamaged: false };
}

export function createStoreBreaker(parts: BreakerParts, failureThreshold = 1): CircuitBreaker {
  const pauses = { openMs: FIRST_PAUSE_MS, maxOpenMs: MAX_PAUSE_MS };
  return createCircuitBreaker({ failureThreshold, ...pauses, ...parts });
}

/**
 * A store that is damaged again within this time is reopened ever more slowly: each time may leave
 * a file behind.
 */
const DAMAGE_MEMORY_MS = 3_600_000;
const MAX_DAMAGE_PAUSE_MS = 300_000;

/** Call the result when damage is found: it returns the pause before the store is opened again. */
export function createDamagePauses(clock: Clock): () => number {
  let damages = 0;
  let damagedAtMs = -Infinity;
  return () => {
    const now = clock.monotonicMs();
    damages = now - damagedAtMs < DAMAGE_MEMORY_MS ? damages + 1 : 0;
    damagedAtMs = now;
    return damages === 0 ? 0 : Math.min(FIRST_PAUSE_MS * 2 ** damages, MAX_DAMAGE_PAUSE_MS);
  };
}

/** Whether requests may use the store in that way. */
export function works(opened: StoreInUse | undefined, access: Access): opened is StoreInUse {
  return opened !== undefined && !opened.isDamaged && isClosed(opened[access]);
}

export function isClosed(breaker: CircuitBreaker): boolean {
  return breaker.state().kind === 'closed';
}

/** The monotonic time from which it may be tried; reads come first. */
export function trialMs({ reads, writes, isDamaged }: StoreInUse): number {
  return isDamaged ? -Infinity : openUntilMs(isClosed(reads) ? writes : reads);
}

export function openUntilMs(breaker: CircuitBreaker): number {
  const state = breaker.state();
  return state.kind === 'open' ? state.untilMs : -Infinity;
}

/** No id has a hash of zeros. */
const PROBE_KEY = '0'.repeat(32) as SessionKey;
/** Much longer than a store's own timeout. */
const LIMIT_MS = 10_000;

/** Never rejects. */
export async function probeReads(store: SessionStore, clock: Clock): Promise<boolean> {
  try {
    const found = await withinTime(clock, LIMIT_MS, lookup(store), 'a probe of the session store');
    return found !== 'unknown';
  } catch {
    // Late, or it throws against its contract: the store is not readable.
    return false;
  }
}

async function lookup(store: SessionStore): Promise<unknown> {
  return store.lookup(PROBE_KEY);
}

/**
 * Adds a row that expires at once: a full store accepts a write that adds no row. Rejects with the
 * store's error.
 */
export async function probeWrites(
  store: SessionStore,
  self: MachineId,
  clock: Clock,
): Promise<void> {
  const probe = { key: PROBE_KEY, machine: self, origin: 'copied', ttlMs: 1 } as const;
  await withinTime(clock, LIMIT_MS, store.claim(probe), 'a probe of the session store');
}

export function asStoreError(error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  return new StoreError('fatal', 'the session store failed', { cause: error });
}
