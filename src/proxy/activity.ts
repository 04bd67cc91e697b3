/** Whether clients still use this Machine, at the edge or by way of a peer; what else is asked here is none of it. */
import type { Clock } from '../clock.ts';

/** A client that has just got a response sends its next request within this time, as a rule, in ms. */
export const QUIET_MS = 1_000;

export class Activity {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  #openCount = 0;
  #lastEndedAtMs = -Infinity;

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
  }

  /** HOT PATH. */
  begin(): void {
    this.#openCount += 1;
  }

  /** Once for each `begin`. HOT PATH. */
  end(): void {
    this.#openCount -= 1;
    this.#lastEndedAtMs = this.#clock.monotonicMs();
  }

  /** 0: nothing is open, and nothing was for a second. Else the time, in ms, after which it may be so. */
  msUntilQuiet(): number {
    if (this.#openCount > 0) return QUIET_MS;
    return Math.max(0, this.#lastEndedAtMs + QUIET_MS - this.#clock.monotonicMs());
  }
}
