/** What an operator reads of a failing store: that it fails, and how often, not each of its failures. */
import type { Clock } from '../clock.ts';

export interface StoreFailure {
  /** Of the failure that got the line. */
  readonly error: unknown;
  readonly operation: string;
  /** Failures since the last line that have had none of their own. */
  readonly untold: number;
}

/** A store that is down fails with every request: one line tells of it, then one an interval. */
const INTERVAL_MS = 10_000;

/** The first failure is reported at once; each is counted by the store's own metrics anyway. */
export function createStoreFailureReport(
  clock: Pick<Clock, 'monotonicMs'>,
  report: (failure: StoreFailure) => void,
): (operation: string, error: unknown) => void {
  let toldAt = -Infinity;
  let untold = 0;
  return (operation, error) => {
    const now = clock.monotonicMs();
    if (now - toldAt < INTERVAL_MS) {
      untold += 1;
      return;
    }
    report({ error, operation, untold });
    toldAt = now;
    untold = 0;
  };
}
