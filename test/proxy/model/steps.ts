/**
 * A scheduler for the model: each message, response and commit waits here for its turn. A few numbers
 * decide the order, and the same numbers give the same order.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { TestClock } from '../../support/clock.ts';

/** Which waiting step runs next, and how often time advances instead. */
export interface Order {
  /** Repeated from the start when they run out. Only zeros mean first come, first served. */
  readonly picks: readonly number[];
  /** Time advances at every such pick, so that responses arrive too late. 0: only when no step is waiting. */
  readonly tickEvery: number;
}

/** Far more steps than any world takes. */
const MAX_STEPS = 5_000;
const TICK_MS = 100;

interface Waiting {
  readonly label: string;
  readonly go: () => void;
}

export class Steps {
  /** The steps that ran, for the message of a failed test. */
  readonly log: string[] = [];
  readonly #order: Order;
  readonly #clock: TestClock;
  readonly #waiting: Waiting[] = [];
  #pickCount = 0;
  #hasTicked = false;
  #hasNoDelays = false;

  constructor(order: Order, clock: TestClock) {
    this.#order = order;
    this.#clock = clock;
  }

  /** From now on time advances only when no step is waiting. */
  stopDelays(): void {
    this.#hasNoDelays = true;
  }

  /** Resolves when it is this step's turn. */
  pass(label: string): Promise<void> {
    return new Promise((go) => void this.#waiting.push({ label, go }));
  }

  /** Runs steps until none is waiting and `isOver` returns true. Advances time while no step is waiting. */
  async run(isOver: () => boolean): Promise<void> {
    for (let count = 0; count < MAX_STEPS; count += 1) {
      await nextTurn();
      const pick = this.#nextPick();
      const { tickEvery } = this.#order;
      const isTick =
        !this.#hasNoDelays && tickEvery > 0 && pick % tickEvery === 1 && !this.#hasTicked;
      this.#hasTicked = isTick;
      if (this.#waiting.length > 0 && !isTick) this.#take(pick);
      else if (this.#waiting.length === 0 && isOver()) return;
      else await this.#clock.advance(TICK_MS);
    }
    throw new Error(`too many steps, the last ones: ${this.log.slice(-20).join(', ')}`);
  }

  #nextPick(): number {
    const { picks } = this.#order;
    const pick = picks[this.#pickCount % Math.max(picks.length, 1)] ?? 0;
    this.#pickCount += 1;
    return pick;
  }

  #take(pick: number): void {
    const [step] = this.#waiting.splice(pick % this.#waiting.length, 1);
    if (!step) return;
    this.log.push(step.label);
    step.go();
  }
}
