/**
 * Requests that wait for the end of their body, as it may hold their session id. There is room for some. Of more, the
 * one that has waited longest waits no more: clients that send no body must not keep others from being routed.
 */
import type { Clock } from '../clock.ts';
import type { BufferBudget } from '../http/buffers.ts';

/** How long an id may be waited for, in ms. Up to 64 KB take less on any connection that is of use. */
const MAX_HOLD_MS = 5_000;

interface Waiting {
  readonly bytes: number;
  readonly end: () => void;
  readonly onGivenUp: () => void;
}

export class HeldBodies {
  readonly #budget: Pick<BufferBudget, 'reserve' | 'giveBack'>;
  readonly #clock: Pick<Clock, 'after'>;
  /** The one that has waited longest is the first. */
  readonly #waiting = new Set<Waiting>();

  constructor(budget: Pick<BufferBudget, 'reserve' | 'giveBack'>, clock: Pick<Clock, 'after'>) {
    this.#budget = budget;
    this.#clock = clock;
  }

  /** Returns a function that ends the wait; undefined if there is no room. `onGivenUp`: the body is too slow. */
  begin(bytes: number, onGivenUp: () => void): (() => void) | undefined {
    if (!this.#budget.reserve(bytes)) {
      this.#giveUpOldest(bytes);
      if (!this.#budget.reserve(bytes)) return undefined;
    }
    const giveUp = (): void => {
      waiting.end();
      onGivenUp();
    };
    const cancel = this.#clock.after(MAX_HOLD_MS, giveUp);
    const end = (): void => {
      if (!this.#waiting.delete(waiting)) return;
      cancel();
      this.#budget.giveBack(bytes);
    };
    const waiting: Waiting = { bytes, end, onGivenUp };
    this.#waiting.add(waiting);
    return end;
  }

  /** As many as have that room. */
  #giveUpOldest(bytes: number): void {
    const oldest: Waiting[] = [];
    let freed = 0;
    for (const waiting of this.#waiting) {
      if (freed >= bytes) break;
      freed += waiting.bytes;
      oldest.push(waiting);
    }
    for (const { end } of oldest) end();
    for (const { onGivenUp } of oldest) onGivenUp();
  }
}
