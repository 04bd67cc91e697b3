/** Logs the first of many alike at once, and then one an interval: what fails with every request must not fill the log. */
import type { Clock } from '../clock.ts';

/** `report` gets an item, and how many went unreported since the one before it. */
export function createRateLimitedReport<Item>(
  clock: Pick<Clock, 'monotonicMs'>,
  intervalMs: number,
  report: (item: Item, unreported: number) => void,
): (item: Item) => void {
  let reportedAt = -Infinity;
  let unreported = 0;
  return (item) => {
    const now = clock.monotonicMs();
    if (now - reportedAt < intervalMs) {
      unreported += 1;
      return;
    }
    report(item, unreported);
    reportedAt = now;
    unreported = 0;
  };
}
