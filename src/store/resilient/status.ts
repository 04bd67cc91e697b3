/** The status of a store: what fails, since when, why, and whether its results are reliable. */
import type { Clock } from '../../clock.ts';
import { type StoreHealth, StoreError, type StoreMetrics } from '../store.ts';
import { MAX_PAUSE_MS } from './store-in-use.ts';
import type { Outbox } from './outbox.ts';
import type { StoreCounters } from '../write-methods.ts';

export interface StoreStatusOptions {
  readonly isShared: boolean;
  readonly clock: Clock;
  readonly outbox: Pick<Outbox, 'depth' | 'ageMs' | 'isDurable'>;
  readonly onHealth: (health: StoreHealth) => void;
}

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

export interface CumulativeCounts {
  /**
   * The store's counts plus what this wrapper did. `held` is the store's, undefined if the store
   * was not asked: then the previous values stay.
   */
  add(
    store: object | undefined,
    held: StoreMetrics | undefined,
    beside: StoreCounters,
  ): StoreCounters;
}

const COUNTED = ['lookups', 'upserts', 'deletes', 'errors'] as const;
type Counts = Record<(typeof COUNTED)[number], number>;

const NONE: Counts = { lookups: 0, upserts: 0, deletes: 0, errors: 0 };

export function createCumulativeCounts(): CumulativeCounts {
  let ofFormer = NONE;
  let ofLast: StoreMetrics | undefined;
  let last: object | undefined;
  return {
    add: (store, held, beside) => {
      if (held) {
        if (store !== last && ofLast) ofFormer = sum(ofFormer, ofLast);
        last = store;
        ofLast = held;
      }
      const counts = sum(sum(ofFormer, ofLast ?? NONE), beside);
      return { ...counts, lastCleanupAt: ofLast?.lastCleanupAt ?? beside.lastCleanupAt };
    },
  };
}

function sum(some: Counts, more: Counts): Counts {
  const total = { ...NONE };
  for (const name of COUNTED) total[name] = some[name] + more[name];
  return total;
}
