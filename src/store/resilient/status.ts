/**
 * The status of a store: what fails, since when, why, and whether its results are reliable; and the
 * open store itself, with a circuit breaker for its reads and one for its writes.
 */
import type { Clock } from '../../clock.ts';
import { type StoreHealth, StoreError, type SessionStore } from '../store.ts';
import type { Outbox } from './outbox.ts';
import { createCircuitBreaker, type CircuitBreaker } from '../../resilience.ts';
import type { MachineId, SessionKey } from '../../session.ts';
import { withinTime } from '../time-limit.ts';

interface StoreStatusOptions {
  readonly isShared: boolean;
  readonly clock: Clock;
  readonly outbox: Pick<Outbox, 'depth' | 'ageMs' | 'isDurable'>;
  readonly onHealth: (health: StoreHealth) => void;
}

/** The first pause before a failed store is tried again; it doubles up to the last. */
export const FIRST_PAUSE_MS = 500;
export const MAX_PAUSE_MS = 10_000;

/**
 * After a shared store was away, or has forgotten bindings, each Machine flushes its own: the last
 * Machine after its longest pause.
 */
const STABLE_AFTER_MS = MAX_PAUSE_MS + 5_000;
const STABLE = -Infinity;

const NOT_OPEN = new StoreError('passing', 'the session store is not open yet');
const UNREADABLE = new StoreError('passing', 'the session store does not respond');

export class StoreStatus {
  readonly #options: StoreStatusOptions;
  readonly #clock: Clock;
  #failing: StoreHealth['failing'] = 'all';
  /**
   * How often the store may have forgotten what this Machine knows, and up to which of these losses
   * it was refilled.
   */
  #losses = 0;
  #lossesRefilled = 0;
  /** For a shared store: until then other Machines may still be flushing their bindings. */
  #stableAtMs = STABLE;
  #awaySinceMs: number | undefined;
  #unhealthySinceMs: number | undefined;
  #lastError: StoreError | undefined = NOT_OPEN;
  /** A store that is healthy from the start is not reported. */
  #reported = 'healthy none';

  constructor(options: StoreStatusOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#awaySinceMs = options.clock.monotonicMs();
  }

  get lastError(): StoreError | undefined {
    return this.#lastError;
  }

  get losses(): number {
    return this.#losses;
  }

  state(): StoreHealth['state'] {
    if (this.#failing !== 'none') return 'degraded';
    return this.#options.outbox.depth > 0 || this.needsRefill() ? 'recovering' : 'healthy';
  }

  /**
   * Whether the store has all that was accepted here or that it acknowledged, as far as can be
   * known.
   */
  isTrusted(): boolean {
    return this.#failing === 'none' && this.#options.outbox.depth === 0 && !this.mayHaveForgotten();
  }

  /** Whether the store may lack bindings that it acknowledged. */
  mayHaveForgotten(): boolean {
    if (this.needsRefill()) return true;
    if (this.#stableAtMs === STABLE) return false;
    if (this.#clock.monotonicMs() >= this.#stableAtMs) this.#stableAtMs = STABLE;
    return this.#stableAtMs !== STABLE;
  }

  /** Whether the store may lack bindings that this Machine knows. */
  needsRefill(): boolean {
    return this.#lossesRefilled < this.#losses;
  }

  hasForgotten(): void {
    this.#losses += 1;
  }

  /** The store received what is known here; losses after the first `losses` need another refill. */
  wasRefilled(losses: number): void {
    this.#lossesRefilled = losses;
  }

  hasFailed(error: StoreError): void {
    this.#lastError = error;
  }

  /** How long no read has succeeded, in ms; 0 while reads work. */
  awayMs(): number {
    return this.#awaySinceMs === undefined ? 0 : this.#clock.monotonicMs() - this.#awaySinceMs;
  }

  /**
   * Call it after anything that may have changed the status; reports a change, and returns whether
   * there was one.
   */
  update(failing: StoreHealth['failing']): boolean {
    const now = this.#clock.monotonicMs();
    this.#failing = failing;
    const state = this.state();
    const canRead = failing === 'none' || failing === 'writes';
    this.#awaySinceMs = canRead ? undefined : (this.#awaySinceMs ?? now);
    this.#unhealthySinceMs = state === 'healthy' ? undefined : (this.#unhealthySinceMs ?? now);
    const change = `${state} ${failing}`;
    const isChanged = change !== this.#reported;
    if (this.#options.isShared && (isChanged || state !== 'healthy')) {
      this.#stableAtMs = now + STABLE_AFTER_MS;
    }
    if (!isChanged) return false;
    if (state !== 'degraded') this.#lastError = undefined;
    this.#reported = change;
    this.#options.onHealth(this.health());
    return true;
  }

  health(): StoreHealth {
    const { depth, isDurable } = this.#options.outbox;
    const failing = this.#failing;
    const since = this.#unhealthySinceMs;
    const error = failing === 'none' ? undefined : (this.#lastError ?? UNREADABLE);
    return {
      ...{ state: this.state(), failing, code: error?.code, reason: error?.message },
      forMs: since === undefined ? 0 : this.#clock.monotonicMs() - since,
      writeBack: { depth, ageMs: this.#options.outbox.ageMs(), isDurable },
    };
  }
}

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

/** An open store, with a circuit breaker for its reads and one for its writes. */
export interface StoreInUse {
  readonly store: SessionStore;
  readonly reads: CircuitBreaker;
  readonly writes: CircuitBreaker;
  /** The store must be closed and opened again. */
  isDamaged: boolean;
}

export type Access = 'reads' | 'writes';

interface BreakerParts {
  readonly clock: Clock;
  readonly random: () => number;
}

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
