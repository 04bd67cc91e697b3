/**
 * Touches: how often a session in continuous use is written. Requests use a simulated clock, the
 * real store and the real decision about touches.
 */
import { join } from 'node:path';
import type { SessionId } from '../../src/session.ts';
import { createBindings, type Bindings } from '../../src/proxy/bindings.ts';
import type { Lookup } from '../../src/store/store.ts';
import { createTestClock } from '../support/clock.ts';
import type { Bench, Stage } from './bench.ts';
import { MACHINE, openFile, performAll, sessionKey } from './store-sessions.ts';
import { openWrapped } from './store-wrapped.ts';
import { nullMetrics } from '../../src/observability/metrics.ts';

/** Ten requests a second. */
const INTERVAL_MS = 100;
/** A tenth of the default: the counts are relative to it. */
const TTL_MS = 60_000;
/**
 * `TOUCH_AFTER` of proxy/bindings.ts is a tenth of the TTL: a touch is due when that much, and up
 * to a twentieth more, has passed since the last one.
 */
const MAX_TOUCHES_PER_TTL = 10;
/** Concurrent claims. */
const AT_ONCE = 500;

export const benchTouches: Bench = async (stage) => {
  const { touchedSessions, touchedTtls } = stage.effort;
  const touches = await countTouches(stage);
  const value = touches / touchedSessions / touchedTtls;
  const requests = TTL_MS / INTERVAL_MS;
  return {
    title: `Touches of ${touchedSessions} sessions with ten requests a second each`,
    unit: 'times',
    perUnit: 'session',
    measurements: [
      { candidate: 'used in a time to live', value: requests, cpuMicros: undefined },
      { candidate: 'touched', value, cpuMicros: undefined },
    ],
    ratios: [
      {
        name: 'touches of a session',
        value,
        byCpu: undefined,
        target: { atMost: MAX_TOUCHES_PER_TTL },
      },
    ],
  };
};

/** As the store receives them. */
async function countTouches(stage: Stage): Promise<number> {
  const { touchedSessions, touchedTtls } = stage.effort;
  const clock = createTestClock();
  let touches = 0;
  const options = {
    clock,
    onOperation: (operation: string) => (touches += operation === 'touch' ? 1 : 0),
  };
  const path = join(stage.workspace.directory, 'touches.sqlite');
  const store = await openWrapped('sqlite', () => openFile(path, options), {
    clock,
    ttlMs: TTL_MS,
  });
  stage.after(() => store.close());
  const bindings = createBindings({
    metrics: nullMetrics,
    ...{ self: MACHINE, store, clock, ttlMs: TTL_MS },
    peers: { announce: () => undefined },
    onFailure: fail,
    onConflict: fail,
  });
  const ids = Array.from({ length: touchedSessions }, (_, number) => `touched-${number}`);
  await performAll(ids, AT_ONCE, (id) => bindings.bindDiscovered(id as SessionId, 'mcp'));
  const keys = ids.map(sessionKey);
  for (let ms = 0; ms < touchedTtls * TTL_MS; ms += INTERVAL_MS) {
    await clock.advance(INTERVAL_MS);
    for (const key of keys) use(store.lookup(key), bindings);
    // The writes take no time by this clock, nor do the checks for other processes' writes.
    await bindings.stop();
    await store.getMetrics();
  }
  store.reportFailures();
  return touches;
}

function use(found: Lookup | Promise<Lookup>, bindings: Bindings): void {
  if (found instanceof Promise || typeof found === 'string') throw new Error('a session is gone');
  bindings.touchIfDue(found);
}

function fail(): never {
  throw new Error('a binding could not be written');
}
