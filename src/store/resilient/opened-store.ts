/** A store that is open, with a circuit breaker for its reads and one for its writes. */
import type { Clock } from '../../clock.ts';
import { createCircuitBreaker } from '../../resilience.ts';
import type { CircuitBreaker } from '../../resilience.ts';
import type { SessionStore } from '../store.ts';

export interface OpenedStore {
  readonly store: SessionStore;
  readonly reads: CircuitBreaker;
  readonly writes: CircuitBreaker;
  /** It is to be closed, and opened anew. */
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
/** One read may be late for a reason of its own. A write has had its retries. */
const READ_FAILURES = 3;

export function createOpenedStore(store: SessionStore, parts: BreakerParts): OpenedStore {
  const reads = createStoreBreaker(parts, READ_FAILURES);
  return { store, reads, writes: createStoreBreaker(parts), isDamaged: false };
}

export function createStoreBreaker(parts: BreakerParts, failureThreshold = 1): CircuitBreaker {
  const pauses = { openMs: FIRST_PAUSE_MS, maxOpenMs: MAX_PAUSE_MS };
  return createCircuitBreaker({ failureThreshold, ...pauses, ...parts });
}

/** Whether requests may use it in that way. */
export function works(opened: OpenedStore | undefined, access: Access): opened is OpenedStore {
  return opened !== undefined && !opened.isDamaged && isClosed(opened[access]);
}

export function isClosed(breaker: CircuitBreaker): boolean {
  return breaker.state().kind === 'closed';
}

/** Monotonic time from which on it may be tried; reads come first. */
export function trialMs({ reads, writes, isDamaged }: OpenedStore): number {
  return isDamaged ? -Infinity : openUntilMs(isClosed(reads) ? writes : reads);
}

export function openUntilMs(breaker: CircuitBreaker): number {
  const state = breaker.state();
  return state.kind === 'open' ? state.untilMs : -Infinity;
}
