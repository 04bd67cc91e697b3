/** Logs the first of many similar events at once, and then one per interval: repeated failures must not fill the log. */
import type { Clock } from '../clock.ts';

/** `report` receives an item, and the number of unreported ones since the last. */
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
