/** The clean-up on a timer. Stores have none of their own, so a store in a test starts nothing. */
import type { Clock } from '../clock.ts';
import type { SessionStore } from './store.ts';

export interface CleanupOptions {
  readonly clock: Clock;
  /** 0: never, and no timer exists. */
  readonly intervalMs: number;
  /** A clean-up that failed; the next one comes in its time all the same. */
  readonly onError: (error: unknown) => void;
}

/** In this order: no more of them; then the store is closed, which ends the one under way; then its end. */
export interface Cleanups {
  /** What fails from now on is not told: the store is about to be closed. */
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
