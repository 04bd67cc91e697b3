/** Servers that end with a test, or with a file of tests. */

/** A test's context, or the module `node:test` for a whole file. */
export interface Ending {
  after(stop: () => Promise<void>): void;
}

/** What was begun adds how it is stopped. */
export type Stops = (() => Promise<void>)[];

/**
 * Says at once that something has to be stopped, not when it is up: a file whose tests are all left
 * out (`--test-name-pattern`) is over before.
 */
export function stoppedAfter<Started>(
  t: Ending,
  start: (stops: Stops) => Promise<Started>,
): Promise<Started> {
  const stops: Stops = [];
  const starting = start(stops);
  t.after(async () => {
    // Whoever waits for it hears of its failure.
    await starting.catch(() => undefined);
    for (const stop of stops) await stop();
  });
  return starting;
}
