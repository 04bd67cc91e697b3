/** Requests that pass two sidecars, in the metrics of both. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Metrics } from '../../src/observability/metrics.ts';
import { startBehindEdge, type EdgeFleet } from '../support/behind-edge.ts';
import { openMetrics } from '../support/metrics.ts';

/** Too large to be replayed. */
const LARGE = 'x'.repeat(1_100_000);

interface Counted {
  readonly fleet: EdgeFleet;
  /** The sum of a metric over both Machines. */
  readonly sum: (name: string) => Promise<number>;
}

async function setUp(t: TestContext): Promise<Counted> {
  const metrics: readonly Metrics[] = [openMetrics(t), openMetrics(t)];
  const fleet = await startBehindEdge(t, ['m1', 'm2'], {}, (id) => {
    const own = metrics[id === 'm1' ? 0 : 1];
    assert.ok(own);
    return { metrics: own };
  });
  const sum = async (name: string): Promise<number> => {
    const texts = await Promise.all(metrics.map((own) => own.render()));
    const found = texts.join('\n').matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\d+)$`, 'gm'));
    return [...found].reduce((total, [, value]) => total + Number(value), 0);
  };
  return { fleet, sum };
}

for (const [what, init, way] of [
  ['replayed', {}, ['m2', 'm1']],
  ['forwarded', { method: 'POST', body: LARGE }, ['m2']],
] as const) {
  test(`a ${what} request is one request of a client, and two decisions`, async (t) => {
    const { fleet, sum } = await setUp(t);
    const { session = '' } = await fleet.open('m1');
    const called = await fleet.call('m2', session, init);
    assert.deepEqual([called.status, called.by, called.way], [200, 'm1', way]);
    assert.equal(await sum('fly_affinity_sessions_opened_total'), 1);
    assert.equal(await sum('fly_affinity_client_requests_total'), 2);
    assert.equal(await sum('fly_affinity_session_requests_total'), 1);
    assert.equal(await sum('fly_affinity_requests_total'), 3);
    assert.equal(await sum('fly_affinity_upstream_seconds_count'), what === 'forwarded' ? 3 : 2);
    const ofApps = 'fly_affinity_upstream_seconds_count\\{upstream="app"\\}';
    assert.equal(await sum(ofApps), 2);
  });
}

test('a session that its client ends is counted as ended, once', async (t) => {
  const { fleet, sum } = await setUp(t);
  const { session = '' } = await fleet.open('m1');
  await fleet.call('m2', session, { method: 'DELETE' });
  await fleet.call('m1', session, { method: 'DELETE' });
  assert.equal(await sum('fly_affinity_sessions_ended_total'), 1);
});
