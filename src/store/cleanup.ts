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

/** Ends the timer and waits for a clean-up that is under way. */
export type StopCleanup = () => Promise<void>;

export function startCleanup(
  store: Pick<SessionStore, 'cleanup'>,
  { clock, intervalMs, onError }: CleanupOptions,
): StopCleanup {
  let underWay: Promise<void> | undefined;

  const clean = async (): Promise<void> => {
    try {
      await store.cleanup();
    } catch (error) {
      onError(error);
    }
  };
  const cleanUnlessUnderWay = (): void => {
    underWay ??= clean().finally(() => (underWay = undefined));
  };

  const cancel = intervalMs > 0 ? clock.every(intervalMs, cleanUnlessUnderWay) : undefined;
  return async () => {
    cancel?.();
    await underWay;
  };
}
