/**
 * What may happen next, in an order that a few numbers decide: each message, response and commit of a
 * model waits here for its turn. The same numbers give the same order.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { TestClock } from '../../support/clock.ts';

/** Which of those that wait comes next, and how often time passes before anything else does. */
export interface Order {
  /** Used again from the start when they run out; zeros alone are first come, first served. */
  readonly picks: readonly number[];
  /** Time passes at every such pick, so that answers come too late; 0: only when nothing else can happen. */
  readonly tickEvery: number;
}

/** Far more than any world takes. */
const MAX_STEPS = 5_000;
const TICK_MS = 100;

interface Waiting {
  readonly label: string;
  readonly go: () => void;
}

export class Steps {
  /** What has happened, for a reader of a failure. */
  readonly taken: string[] = [];
  readonly #order: Order;
  readonly #clock: TestClock;
  readonly #waiting: Waiting[] = [];
  #pickCount = 0;
  #hasTicked = false;
  #isTimely = false;

  constructor(order: Order, clock: TestClock) {
    this.#order = order;
    this.#clock = clock;
  }

  /** From now on nothing is late. */
  beTimely(): void {
    this.#isTimely = true;
  }

  /** Resolves when it is this step's turn. */
  pass(label: string): Promise<void> {
    return new Promise((go) => void this.#waiting.push({ label, go }));
  }

  /** Takes steps until nothing waits and `isOver`; while only time can help, it passes. */
  async run(isOver: () => boolean): Promise<void> {
    for (let count = 0; count < MAX_STEPS; count += 1) {
      await nextTurn();
      const pick = this.#nextPick();
      const { tickEvery } = this.#order;
      const isTick = !this.#isTimely && tickEvery > 0 && pick % tickEvery === 1 && !this.#hasTicked;
      this.#hasTicked = isTick;
      if (this.#waiting.length > 0 && !isTick) this.#take(pick);
      else if (this.#waiting.length === 0 && isOver()) return;
      else await this.#clock.advance(TICK_MS);
    }
    throw new Error(`there is no end to it: ${this.taken.slice(-20).join(', ')}`);
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
    this.taken.push(step.label);
    step.go();
  }
}
