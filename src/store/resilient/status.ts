/** The status of a store: what fails, since when, why, and whether its answers may be trusted. */
import type { Clock } from '../../clock.ts';
import type { StoreHealth } from '../health.ts';
import { MAX_PAUSE_MS } from './store-in-use.ts';
import type { Outbox } from './outbox.ts';
import { StoreError, type StoreMetrics } from '../store.ts';
import type { StoreCounters } from '../write-methods.ts';

export interface StoreStatusOptions {
  readonly isShared: boolean;
  readonly clock: Clock;
  readonly outbox: Pick<Outbox, 'depth' | 'ageMs' | 'isDurable'>;
  readonly onHealth: (health: StoreHealth) => void;
}

/**
 * After a shared store was away, or has forgotten bindings, each Machine tells it its own: the last
 * of them after its longest pause.
 */
const SETTLE_MS = MAX_PAUSE_MS + 5_000;
const SETTLED = -Infinity;

const NOT_OPEN = new StoreError('passing', 'the session store is not open yet');
const UNREADABLE = new StoreError('passing', 'the session store does not answer');

export class StoreStatus {
  readonly #options: StoreStatusOptions;
  readonly #clock: Clock;
  #failing: StoreHealth['failing'] = 'all';
  /** How often the store may have forgotten what this Machine knows, and of which of them it was told. */
  #losses = 0;
  #lossesMended = 0;
  /** Of a shared store: until when other Machines may be telling it what it lacks. */
  #settledAtMs = SETTLED;
  #awaySinceMs: number | undefined;
  #unhealthySinceMs: number | undefined;
  #lastError: StoreError | undefined = NOT_OPEN;
  /** Nobody is told of a store that is there from the start. */
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

  /** Whether the store has all that was accepted here or acknowledged by it, as far as can be told. */
  isTrusted(): boolean {
    return this.#failing === 'none' && this.#options.outbox.depth === 0 && !this.mayHaveForgotten();
  }

  /** Whether it may lack what it had acknowledged. */
  mayHaveForgotten(): boolean {
    if (this.needsRefill()) return true;
    if (this.#settledAtMs === SETTLED) return false;
    if (this.#clock.monotonicMs() >= this.#settledAtMs) this.#settledAtMs = SETTLED;
    return this.#settledAtMs !== SETTLED;
  }

  /** Whether it may lack what this Machine knows. */
  needsRefill(): boolean {
    return this.#lossesMended < this.#losses;
  }

  hasForgotten(): void {
    this.#losses += 1;
  }

  /** It was told what is known here; what was lost since the first `losses` is another matter. */
  wasRefilled(losses: number): void {
    this.#lossesMended = losses;
  }

  hasFailed(error: StoreError): void {
    this.#lastError = error;
  }

  /** How long nothing has been read from it, in ms; 0 while reads work. */
  awayMs(): number {
    return this.#awaySinceMs === undefined ? 0 : this.#clock.monotonicMs() - this.#awaySinceMs;
  }

  /** To be called after anything that may have changed it; reports a change, and returns whether there was one. */
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
      this.#settledAtMs = now + SETTLE_MS;
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
   * With what was done beside the store. `held` is what the store says, undefined if it was not
   * asked: then it has said nothing new.
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
