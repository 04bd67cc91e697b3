/**
 * Walks through the store in the background, at the start and now and then, so that a tally knows of
 * what this process has not seen: sessions from before its start, what was evicted, and what other
 * Machines have taken over in a store that the fleet shares.
 */
import type { Clock } from '../clock.ts';
import type { SessionStore } from './store.ts';
import type { Tally } from './session-counter.ts';

export interface RecountOptions {
  readonly clock: Clock;
  /** From 0 to below 1: a fleet must not walk through its store all at once. */
  readonly random: () => number;
  /** Whether a walk sees all that is bound: not while memory stands in for a store, or one is refilled. */
  readonly isWhole: () => boolean;
}

/** In this order: no more of them; then the store is closed, which ends the one under way; then its end. */
export interface Recounts {
  cancel(): void;
  ended(): Promise<void>;
}

/** A session in use is heard of anyway, and one that is not ends by itself: this is for the rest. In ms. */
export const RECOUNT_INTERVAL_MS = 900_000;
/** After a walk that did not come to its end, in ms. */
export const RECOUNT_RETRY_MS = 10_000;
const JITTER = 0.1;

export function startRecounts(
  store: Pick<SessionStore, 'entries'>,
  tally: Pick<Tally, 'note' | 'beginRecount'>,
  { clock, random, isWhole }: RecountOptions,
): Recounts {
  const cancelled = new AbortController();
  const { signal } = cancelled;

  /** In strides: every store leaves others their turn while it hands its entries out. */
  const recount = async (): Promise<'complete' | 'broken-off'> => {
    if (!isWhole()) return 'broken-off';
    const end = tally.beginRecount();
    try {
      for await (const binding of store.entries()) {
        if (signal.aborted) return 'broken-off';
        tally.note(binding);
      }
    } catch {
      // That the store fails is told where its operations are watched; what was counted stays.
      return 'broken-off';
    }
    if (!isWhole()) return 'broken-off';
    end();
    return 'complete';
  };

  const recountForever = async (): Promise<void> => {
    while (!signal.aborted) {
      const outcome = await recount();
      const waitMs = outcome === 'complete' ? RECOUNT_INTERVAL_MS : RECOUNT_RETRY_MS;
      await clock.sleep(waitMs * (1 + JITTER * random()), signal);
    }
  };

  const running = recountForever();
  return { cancel: () => cancelled.abort(), ended: () => running };
}
