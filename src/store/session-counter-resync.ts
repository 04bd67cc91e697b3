/**
 * Walks through the store in the background, at the start and now and then, so that the counter knows of
 * what this process has not seen: sessions from before its start, what was evicted, and what other
 * Machines have taken over in a store that the fleet shares.
 */
import type { Clock } from '../clock.ts';
import type { SessionStore } from './store.ts';
import type { SessionCounter } from './session-counter.ts';

export interface ResyncOptions {
  readonly clock: Clock;
  /** From 0 to below 1: a fleet must not walk through its store all at once. */
  readonly random: () => number;
  /** Whether a walk sees all that is bound: not while memory stands in for a store, or one is refilled. */
  readonly isWhole: () => boolean;
}

/** In this order: no more of them; then the store is closed, which ends the one under way; then its end. */
export interface Resync {
  cancel(): void;
  ended(): Promise<void>;
}

/** A session in use is heard of anyway, and one that is not ends by itself: this is for the rest. In ms. */
export const RESYNC_INTERVAL_MS = 900_000;
/** After a walk that did not come to its end, in ms. */
export const RESYNC_RETRY_MS = 10_000;
const JITTER = 0.1;

export function startResync(
  store: Pick<SessionStore, 'entries'>,
  counter: Pick<SessionCounter, 'note' | 'beginResync'>,
  { clock, random, isWhole }: ResyncOptions,
): Resync {
  const cancelled = new AbortController();
  const { signal } = cancelled;

  /** In strides: every store leaves others their turn while it hands its entries out. */
  const resync = async (): Promise<'complete' | 'broken-off'> => {
    if (!isWhole()) return 'broken-off';
    const end = counter.beginResync();
    try {
      for await (const binding of store.entries()) {
        if (signal.aborted) return 'broken-off';
        counter.note(binding);
      }
    } catch {
      // That the store fails is told where its operations are watched; what was counted stays.
      return 'broken-off';
    }
    if (!isWhole()) return 'broken-off';
    end();
    return 'complete';
  };

  const resyncForever = async (): Promise<void> => {
    while (!signal.aborted) {
      const outcome = await resync();
      const waitMs = outcome === 'complete' ? RESYNC_INTERVAL_MS : RESYNC_RETRY_MS;
      await clock.sleep(waitMs * (1 + JITTER * random()), signal);
    }
  };

  const running = resyncForever();
  return { cancel: () => cancelled.abort(), ended: () => running };
}
