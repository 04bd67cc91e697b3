/**
 * Walks through the store in the background, at the start and periodically, so that the counter
 * finds what this process has not seen: sessions from before its start, evictions, and sessions
 * that other Machines have taken over in a shared store.
 */
import type { Clock } from '../clock.ts';
import type { SessionStore } from './store.ts';
import type { SessionCounter } from './session-counter.ts';

export interface ResyncOptions {
  readonly clock: Clock;
  /** Random number from 0 to below 1: the Machines of a fleet must not all walk at once. */
  readonly random: () => number;
  /**
   * Whether a walk sees all bindings: not while memory replaces a store, or a store is being
   * refilled.
   */
  readonly isWhole: () => boolean;
}

/**
 * The order at shutdown: stop the schedule, close the store (which ends a walk in progress), wait
 * for it.
 */
export interface Resync {
  cancel(): void;
  ended(): Promise<void>;
}

/**
 * Requests report a session in use, and an unused one expires by itself: this is for the rest. In
 * ms.
 */
export const RESYNC_INTERVAL_MS = 900_000;
/** The pause after a walk that did not finish, in ms. */
export const RESYNC_RETRY_MS = 10_000;
const JITTER = 0.1;

export function startResync(
  store: Pick<SessionStore, 'entries'>,
  counter: Pick<SessionCounter, 'note' | 'beginResync'>,
  { clock, random, isWhole }: ResyncOptions,
): Resync {
  const cancelled = new AbortController();
  const { signal } = cancelled;

  /** In strides: every store lets other work run while it lists its entries. */
  const resync = async (): Promise<'complete' | 'broken-off'> => {
    if (!isWhole()) return 'broken-off';
    const end = counter.beginResync();
    try {
      for await (const binding of store.entries()) {
        if (signal.aborted) return 'broken-off';
        counter.note(binding);
      }
    } catch {
      // The store's metrics report its failures; what was counted stays.
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
