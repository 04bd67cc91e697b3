/**
 * The periodic clean-up. Stores have no timer of their own, so a store in a test starts nothing.
 */
import type { Clock } from '../clock.ts';
import type { SessionStore } from './store.ts';

interface CleanupOptions {
  readonly clock: Clock;
  /** 0 turns the clean-up off: no timer exists. */
  readonly intervalMs: number;
  /** Called when a clean-up fails; the next one runs on schedule. */
  readonly onError: (error: unknown) => void;
}

/**
 * The order at shutdown: stop the schedule, close the store (which ends a clean-up in progress),
 * wait for it.
 */
interface Cleanups {
  /** Later failures are not reported: the store is about to be closed. */
  cancel(): void;
  ended(): Promise<void>;
}

export function startCleanup(
  store: Pick<SessionStore, 'cleanup'>,
  { clock, intervalMs, onError }: CleanupOptions,
): Cleanups {
  let underWay: Promise<void> | undefined;
  let isCancelled = false;

  const clean = async (): Promise<void> => {
    try {
      await store.cleanup();
    } catch (error) {
      if (!isCancelled) onError(error);
    }
  };
  const cleanUnlessUnderWay = (): void => {
    underWay ??= clean().finally(() => (underWay = undefined));
  };

  const stopTimer = intervalMs > 0 ? clock.every(intervalMs, cleanUnlessUnderWay) : undefined;
  return {
    cancel: () => {
      isCancelled = true;
      stopTimer?.();
    },
    ended: async () => underWay,
  };
}
