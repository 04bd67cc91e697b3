/** Servers that end with a test, or with a file of tests. */

/** A test's context, or the module `node:test` for a whole file. */
export interface Ending {
  after(stop: () => Promise<void>): void;
}

/** Everything that is started registers how it is stopped. */
export type Stops = (() => Promise<void>)[];

/**
 * Registers the stop immediately, not when the server is up: a file whose tests are all skipped
 * (`--test-name-pattern`) ends before.
 */
export function stoppedAfter<Started>(
  t: Ending,
  start: (stops: Stops) => Promise<Started>,
): Promise<Started> {
  const stops: Stops = [];
  const starting = start(stops);
  t.after(async () => {
    // Callers that await it receive its failure.
    await starting.catch(() => undefined);
    for (const stop of stops) await stop();
  });
  return starting;
}
