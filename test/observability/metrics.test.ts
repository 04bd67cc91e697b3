import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { systemClock } from '../../src/clock.ts';
import {
  FROM_STORE,
  FROM_STORE_HEALTH,
  RECORDED,
  SAMPLED,
  type Metrics,
  type WatchedStore,
} from '../../src/observability/metrics.ts';
import { createMetrics } from '../../src/observability/prometheus.ts';
import type { StoreHealth, StoreMetrics } from '../../src/store/store.ts';
import { createTestClock } from '../support/clock.ts';
import { openMetrics } from '../support/metrics.ts';

const STORE: StoreMetrics = {
  total: 10,
  expired: 3,
  lookups: 20,
  upserts: 21,
  deletes: 22,
  errors: 23,
  lastCleanupAt: 5000,
  sizeBytes: 4096,
};

/** The value of a series, as Prometheus would read it. */
async function valueOf(metrics: Metrics, series: string): Promise<number | undefined> {
  const line = (await metrics.render()).split('\n').find((text) => text.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

test('requests are counted by decision and why', async (t) => {
  const metrics = openMetrics(t);
  metrics.requestDecided('local', 'owner');
  metrics.requestDecided('local', 'owner');
  metrics.requestDecided('replay', 'not-owner');
  const series = (decision: string, why: string): string =>
    `fly_affinity_requests_total{decision="${decision}",why="${why}"}`;
  assert.equal(await valueOf(metrics, series('local', 'owner')), 2);
  assert.equal(await valueOf(metrics, series('replay', 'not-owner')), 1);
  assert.equal(await valueOf(metrics, series('replay', 'owner')), undefined);
});

test('failed replays are counted by the reason of Fly Proxy, and by no other value', async (t) => {
  const metrics = openMetrics(t);
  for (const reason of ['timeout', 'no_candidate', 'timeout', 'other'] as const) {
    metrics.replayFailed(reason);
  }
  const series = (reason: string): string =>
    `fly_affinity_replays_failed_total{reason="${reason}"}`;
  assert.equal(await valueOf(metrics, series('timeout')), 2);
  assert.equal(await valueOf(metrics, series('retries_exhausted')), 0);
  assert.equal(await valueOf(metrics, series('no_candidate')), 1);
  assert.equal(await valueOf(metrics, series('other')), 1);
});

test('the times of sidecar and upstream are two histograms, in seconds', async (t) => {
  const metrics = openMetrics(t);
  metrics.sidecarTime(0.2);
  metrics.upstreamTime(30, 'app');
  metrics.sidecarTime(2000);
  const sidecar = 'fly_affinity_sidecar_seconds';
  assert.equal(await valueOf(metrics, `${sidecar}_bucket{le="0.0001"}`), 0);
  assert.equal(await valueOf(metrics, `${sidecar}_bucket{le="0.00025"}`), 1);
  assert.equal(await valueOf(metrics, `${sidecar}_bucket{le="1"}`), 1);
  assert.equal(await valueOf(metrics, `${sidecar}_bucket{le="+Inf"}`), 2);
  assert.equal(await valueOf(metrics, `${sidecar}_sum`), 2.0002);
  assert.equal(await valueOf(metrics, `${sidecar}_count`), 2);
  assert.equal(await valueOf(metrics, 'fly_affinity_upstream_seconds_sum{upstream="app"}'), 0.03);
  assert.equal(await valueOf(metrics, 'fly_affinity_upstream_seconds_count{upstream="app"}'), 1);
});

for (const [statusCode, status] of [
  [101, '1xx'],
  [204, '2xx'],
  [307, '3xx'],
  [421, '4xx'],
  [499, '499'],
  [503, '5xx'],
  [700, 'other'],
] as const) {
  test(`a response of ${statusCode} counts as ${status}`, async (t) => {
    const metrics = openMetrics(t);
    metrics.responseSent(statusCode);
    assert.equal(await valueOf(metrics, `fly_affinity_responses_total{status="${status}"}`), 1);
  });
}

test('store operations are counted and timed by operation', async (t) => {
  const metrics = openMetrics(t);
  metrics.storeOperation('lookup', 'ok');
  metrics.storeOperation('claim', 'error');
  metrics.storeOperationTime(0.02, 'lookup');
  metrics.storeOperationTime(7, 'claim');
  const counted = 'fly_affinity_store_operations_total';
  const timed = 'fly_affinity_store_operation_seconds';
  assert.equal(await valueOf(metrics, `${counted}{operation="lookup",outcome="ok"}`), 1);
  assert.equal(await valueOf(metrics, `${counted}{operation="claim",outcome="error"}`), 1);
  assert.equal(await valueOf(metrics, `${timed}_sum{operation="claim"}`), 0.007);
  assert.equal(await valueOf(metrics, `${timed}_count{operation="touch"}`), undefined);
});

test('streams, peer queries, announcements, conflicts and releases are shown', async (t) => {
  const metrics = openMetrics(t);
  metrics.openStreams('websocket', 1);
  metrics.openStreams('http', 1);
  metrics.openStreams('http', -1);
  metrics.peerQuery('shed');
  metrics.announcementDropped(5);
  metrics.claimConflict();
  metrics.sessionReleased('moved');
  metrics.storeChangeFlushed('conflict');
  assert.equal(await valueOf(metrics, 'fly_affinity_open_streams{kind="websocket"}'), 1);
  assert.equal(await valueOf(metrics, 'fly_affinity_open_streams{kind="http"}'), 0);
  assert.equal(await valueOf(metrics, 'fly_affinity_peer_questions_total{outcome="shed"}'), 1);
  assert.equal(await valueOf(metrics, 'fly_affinity_peer_questions_total{outcome="none"}'), 0);
  assert.equal(await valueOf(metrics, 'fly_affinity_announcements_dropped_total'), 5);
  assert.equal(await valueOf(metrics, 'fly_affinity_claim_conflicts_total'), 1);
  const released = 'fly_affinity_sessions_released_total';
  assert.equal(await valueOf(metrics, `${released}{why="moved"}`), 1);
  assert.equal(await valueOf(metrics, `${released}{why="outranked"}`), 0);
  const writtenBack = 'fly_affinity_store_write_back_total';
  assert.equal(await valueOf(metrics, `${writtenBack}{result="conflict"}`), 1);
  assert.equal(await valueOf(metrics, `${writtenBack}{result="written"}`), 0);
});

test('the app counts as up until its health is known', async (t) => {
  const metrics = openMetrics(t);
  assert.equal(await valueOf(metrics, 'fly_affinity_upstream_up'), 1);
  let isUp = 0;
  metrics.upstreamUp(() => isUp);
  assert.equal(await valueOf(metrics, 'fly_affinity_upstream_up'), 0);
  isUp = 1;
  assert.equal(await valueOf(metrics, 'fly_affinity_upstream_up'), 1);
});

const HEALTHY: StoreHealth = {
  ...{ state: 'healthy', failing: 'none', code: undefined, reason: undefined, forMs: 0 },
  writeBack: { depth: 0, ageMs: 0, isDurable: true },
};

function storeOf(getMetrics: () => Promise<StoreMetrics>, health = HEALTHY): WatchedStore {
  return { getMetrics, health: () => health };
}

test('the store status is reported, whether or not the store responds', async (t) => {
  const metrics = openMetrics(t);
  assert.equal(await valueOf(metrics, 'fly_affinity_store_degraded'), 0);
  const writeBack = { depth: 7, ageMs: 1500, isDurable: true };
  const degraded: StoreHealth = { ...HEALTHY, state: 'degraded', failing: 'writes', writeBack };
  metrics.watchStore(storeOf(() => Promise.reject(new Error('disk gone')), degraded));
  assert.equal(await valueOf(metrics, 'fly_affinity_store_degraded'), 1);
  assert.equal(await valueOf(metrics, 'fly_affinity_store_write_back_depth'), 7);
  assert.equal(await valueOf(metrics, 'fly_affinity_store_write_back_age_seconds'), 1.5);
  metrics.watchStore(storeOf(() => Promise.resolve(STORE)));
  assert.equal(await valueOf(metrics, 'fly_affinity_store_degraded'), 0);
});

test('the store is read at every scrape', async (t) => {
  const metrics = openMetrics(t);
  let total = 9;
  metrics.watchStore(storeOf(() => Promise.resolve({ ...STORE, total: ++total })));
  assert.equal(await valueOf(metrics, 'fly_affinity_sessions'), 7);
  assert.equal(await valueOf(metrics, 'fly_affinity_sessions'), 8);
  assert.equal(await valueOf(metrics, 'fly_affinity_sessions_expired'), 3);
  assert.equal(await valueOf(metrics, 'fly_affinity_store_lookups_total'), 20);
  assert.equal(await valueOf(metrics, 'fly_affinity_store_upserts_total'), 21);
  assert.equal(await valueOf(metrics, 'fly_affinity_store_deletes_total'), 22);
  assert.equal(await valueOf(metrics, 'fly_affinity_store_errors_total'), 23);
  assert.equal(await valueOf(metrics, 'fly_affinity_store_size_bytes'), 4096);
  assert.equal(await valueOf(metrics, 'fly_affinity_store_last_cleanup_timestamp_seconds'), 5);
});

test('the last values stay when the store fails', async (t) => {
  const metrics = openMetrics(t);
  metrics.watchStore(storeOf(() => Promise.resolve(STORE)));
  await metrics.render();
  metrics.watchStore(storeOf(() => Promise.reject(new Error('disk gone'))));
  assert.equal(await valueOf(metrics, 'fly_affinity_sessions'), 7);
});

test('a store that hangs delays a scrape by two seconds, and has one read in flight at a time', async (t) => {
  const clock = createTestClock();
  const metrics = openMetrics(t, clock);
  let readCount = 0;
  const hang = (): Promise<never> => {
    readCount++;
    return new Promise(() => undefined);
  };
  metrics.watchStore(storeOf(hang));
  let rendered = 0;
  const scrapes = [metrics.render(), metrics.render()].map((scrape) =>
    scrape.then(() => rendered++),
  );
  await clock.advance(1999);
  assert.equal(rendered, 0);
  await clock.advance(1);
  await Promise.all(scrapes);
  assert.equal(readCount, 1);
  assert.equal(clock.pendingCount(), 0);
});

test('the process metrics and the versions are reported', async (t) => {
  const metrics = createMetrics({ clock: systemClock, version: '1.2.3' });
  t.after(() => metrics.close());
  const text = await metrics.render();
  assert.match(text, /^fly_affinity_build_info\{version="1\.2\.3",node="v[\d.]+"\} 1$/m);
  for (const name of [
    'process_cpu_seconds_total',
    'process_resident_memory_bytes',
    'nodejs_heap_size_used_bytes',
  ]) {
    const value = await valueOf(metrics, name);
    assert.ok(value !== undefined && value > 0, name);
  }
  assert.match(text, /^nodejs_eventloop_delay_seconds\{quantile="0\.999"\} /m);
  assert.match(metrics.contentType, /^text\/plain; version=/);
});

test('two registries in one process are independent', async (t) => {
  const [left, right] = [openMetrics(t), openMetrics(t)];
  left.claimConflict();
  assert.equal(await valueOf(left, 'fly_affinity_claim_conflicts_total'), 1);
  assert.equal(await valueOf(right, 'fly_affinity_claim_conflicts_total'), 0);
});

test('after close nothing is measured in the background', async () => {
  const before = process.getActiveResourcesInfo().length;
  const metrics = createMetrics({ clock: systemClock, version: '1' });
  const longestDelay = 'nodejs_eventloop_delay_seconds{quantile="1"}';
  await blockEventLoop();
  assert.ok(((await valueOf(metrics, longestDelay)) ?? 0) > 0.01);
  metrics.close();
  metrics.close();
  // Includes what was measured up to the close.
  await metrics.render();
  await blockEventLoop();
  assert.ok(((await valueOf(metrics, longestDelay)) ?? 0) < 0.01);
  assert.equal(process.getActiveResourcesInfo().length, before);
});

/** Long enough to be detected by the event loop measurement, which runs every 10 ms, twice. */
async function blockEventLoop(): Promise<void> {
  for (let round = 0; round < 3; round++) {
    const until = performance.now() + 30;
    while (performance.now() < until);
    await nextTurn();
  }
}

test('each metric has its own name, a help text in one sentence, and typed labels', async (t) => {
  const metrics = openMetrics(t);
  metrics.ownSessions(() => 5);
  metrics.peers(() => ({ answering: 2, silent: 1 }));
  const text = await metrics.render();
  const rows = [...Object.values(RECORDED), ...Object.values(SAMPLED)];
  const names = [...rows, ...FROM_STORE, ...FROM_STORE_HEALTH].map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const name of names) {
    assert.match(text, new RegExp(`^# HELP ${name} [A-Z0-9][^.]*\\.$`, 'm'));
    assert.match(text, new RegExp(`^# TYPE ${name} (counter|gauge|histogram)$`, 'm'));
  }
  assert.match(text, /^fly_affinity_own_sessions 5$/m);
  assert.match(text, /^fly_affinity_peers\{state="silent"\} 1$/m);
});

test('own sessions are not reported before they are counted', async (t) => {
  const text = await openMetrics(t).render();
  assert.doesNotMatch(text, /fly_affinity_own_sessions/);
});

test('the page on operations describes every metric', () => {
  const page = readFileSync(new URL('../../src/docs/operations.md', import.meta.url), 'utf8');
  const tables = [...Object.values(RECORDED), ...Object.values(SAMPLED)];
  const names = [...tables, ...FROM_STORE, ...FROM_STORE_HEALTH].map(({ name }) => name);
  assert.deepEqual(
    names.filter((name) => !page.includes(`\`${name}\``)),
    [],
    'metrics that the page does not name',
  );
});
