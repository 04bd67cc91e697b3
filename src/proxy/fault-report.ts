/** What an operator reads of exceptions on the request path: the first with its stack, then one a minute. */
import type { Clock } from '../clock.ts';

export interface Fault {
  readonly error: unknown;
  /** Exceptions since the last report that had none of their own. */
  readonly unreported: number;
}

const INTERVAL_MS = 60_000;

export function createFaultReport(
  clock: Pick<Clock, 'monotonicMs'>,
  report: (fault: Fault) => void,
): (error: unknown) => void {
  let reportedAt = -Infinity;
  let unreported = 0;
  return (error) => {
    const now = clock.monotonicMs();
    if (now - reportedAt < INTERVAL_MS) {
      unreported += 1;
      return;
    }
    report({ error, unreported });
    reportedAt = now;
    unreported = 0;
  };
}
