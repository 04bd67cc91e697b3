/**
 * One timer for all timeouts: the sweep checks every connection four times a second. A timer for each
 * connection would cost more than a request.
 */
import type { Cancel, Clock } from '../clock.ts';

export interface Sweepable {
  /** Kept by the sweep. */
  sweepIndex: number;
  /**
   * Ends what has taken too long. `nowMs` is one interval behind the clock: what began at some
   * {@link Sweep.nowMs} may have begun that much later, and nothing is to be ended early.
   */
  checkTimeouts(nowMs: number): void;
}

const INTERVAL_MS = 250;

export class Sweep {
  /** Monotonic time in ms, as of the last look: late by a quarter of a second at most. */
  nowMs: number;
  readonly #clock: Clock;
  readonly #items: Sweepable[] = [];
  #cancel: Cancel | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.nowMs = clock.monotonicMs();
  }

  get size(): number {
    return this.#items.length;
  }

  add(item: Sweepable): void {
    if (this.#items.length === 0) {
      this.nowMs = this.#clock.monotonicMs();
      this.#cancel ??= this.#clock.every(INTERVAL_MS, () => this.#look());
    }
    item.sweepIndex = this.#items.length;
    this.#items.push(item);
  }

  /** The last item takes its place. */
  remove(item: Sweepable): void {
    if (item.sweepIndex < 0) return;
    const last = this.#items.pop();
    if (last !== undefined && last !== item) {
      last.sweepIndex = item.sweepIndex;
      this.#items[item.sweepIndex] = last;
    }
    item.sweepIndex = -1;
    if (this.#items.length > 0) return;
    this.#cancel?.();
    this.#cancel = undefined;
  }

  /** From the end on: an item that is removed meanwhile moves none that is still to be checked. */
  #look(): void {
    this.nowMs = this.#clock.monotonicMs();
    const nowMs = this.nowMs - INTERVAL_MS;
    for (let i = this.#items.length - 1; i >= 0; i -= 1) this.#items[i]?.checkTimeouts(nowMs);
  }
}
