/** Whole sidecars that are full, behind the simulated edge. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import type { Metrics } from '../../src/observability/metrics.ts';
import { until } from '../fleet/support.ts';
import { startBehindEdge } from '../support/behind-edge.ts';
import { createTestClock } from '../support/clock.ts';
import { openMetrics } from '../support/metrics.ts';
import { untilNothingIsLeft, watchResources } from '../support/resources.ts';
import { serveSessionApp } from '../support/session-app.ts';
import { startTestSidecar } from '../support/sidecar.ts';

const FULL_AT_TWO = { MAX_SESSIONS_PER_MACHINE: '2' };

async function ownSessionsIn(metrics: Metrics): Promise<string | undefined> {
  return /^fly_affinity_own_sessions (\d+)$/m.exec(await metrics.render())?.[1];
}

describe('a full Machine', () => {
  test('sends new sessions elsewhere and serves its own, until one of them ends', async (t) => {
    const metrics = openMetrics(t);
    const fleet = await startBehindEdge(t, ['m1', 'm2'], FULL_AT_TWO, (id) =>
      id === 'm1' ? { metrics } : {},
    );
    const first = await fleet.open('m1');
    await fleet.open('m1');
    assert.equal(await ownSessionsIn(metrics), '2');
    const third = await fleet.open('m1');
    assert.deepEqual([third.status, third.by, third.way], [200, 'm2', ['m1', 'm2']]);
    const session = first.session ?? '';
    assert.deepEqual((await fleet.call('m1', session)).way, ['m1']);

    await fleet.call('m1', session, { method: 'DELETE' });
    assert.equal(await ownSessionsIn(metrics), '1');
    assert.equal((await fleet.open('m1')).by, 'm1');
    assert.match(
      await metrics.render(),
      /^fly_affinity_requests_total\{decision="elsewhere",why="full"\} 1$/m,
    );
  });

  test('accepts new sessions when all are full, after one replay', async (t) => {
    const fleet = await startBehindEdge(t, ['m1', 'm2'], FULL_AT_TWO);
    for (const id of ['m1', 'm1', 'm2', 'm2']) await fleet.open(id);
    for (const [id, by] of [
      ['m1', 'm2'],
      ['m2', 'm1'],
    ] as const) {
      const opened = await fleet.open(id);
      assert.deepEqual([opened.status, opened.by, opened.way], [200, by, [id, by]]);
      assert.deepEqual((await fleet.call(by, opened.session ?? '')).way, [by]);
    }
  });

  test('accepts new sessions when no other Machine runs', async (t) => {
    const fleet = await startBehindEdge(t, ['m1'], FULL_AT_TWO);
    for (let count = 0; count < 4; count += 1) {
      const { status, way } = await fleet.open('m1');
      assert.deepEqual([status, way], [200, ['m1']]);
    }
  });

  test('has room again when its sessions have expired, without any request', async (t) => {
    const clock = createTestClock();
    const fleet = await startBehindEdge(
      t,
      ['m1', 'm2'],
      { ...FULL_AT_TWO, SESSION_STORE_CLEANUP_INTERVAL_MS: '0' },
      () => ({ clock }),
    );
    await fleet.open('m1');
    await fleet.open('m1');
    assert.equal((await fleet.open('m1')).by, 'm2');
    await clock.advance(601_000);
    assert.equal((await fleet.open('m1')).by, 'm1');
  });

  test('is full after a restart too', async (t) => {
    const dir = mkdtempSync(path.join(tmpdir(), 'fly-affinity-full-'));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    const file = path.join(dir, 'sessions.sqlite');
    const env = { MAX_SESSIONS_PER_MACHINE: '1', SESSION_STORE_URL: '', SESSION_STORE_PATH: file };
    const settings = { FLEET: 'm2@127.0.0.1:9', ...env };
    const app = await serveSessionApp(t);
    const before = await startTestSidecar(t, app, settings);
    await fetch(`http://127.0.0.1:${before.ports.public}/open`, { method: 'POST' });
    await before.stop();

    const metrics = openMetrics(t);
    const after = await startTestSidecar(t, app, settings, { metrics });
    await until(async () => (await ownSessionsIn(metrics)) === '1');
    const url = `http://127.0.0.1:${after.ports.public}/open`;
    const opened = await fetch(url, { method: 'POST', redirect: 'manual' });
    assert.match(opened.headers.get('fly-replay') ?? '', /^elsewhere=true;/);
  });

  test('reports drained before full, and full before its app is down', async (t) => {
    const metrics = openMetrics(t);
    const fleet = await startBehindEdge(t, ['m1', 'm2'], FULL_AT_TWO, (id) =>
      id === 'm1' ? { metrics } : {},
    );
    const { session = '' } = await fleet.open('m1');
    await fleet.open('m1');
    await fleet.apps.get('m1')?.kill();
    assert.equal((await fleet.call('m1', session)).status, 502);
    assert.equal(fleet.machines.get('m1')?.sidecar.readiness().upstream?.state, 'down');
    await fleet.open('m1');
    await fleet.admin('m1', 'POST', '/drain');
    await fleet.open('m1');
    const text = await metrics.render();
    for (const why of ['full', 'draining']) {
      assert.ok(text.includes(`{decision="elsewhere",why="${why}"} 1`), why);
    }
  });
});

test('nothing is counted without a limit', async (t) => {
  const metrics = openMetrics(t);
  await startTestSidecar(t, await serveSessionApp(t), {}, { metrics });
  assert.doesNotMatch(await metrics.render(), /own_sessions/);
});

test('a stop leaves no resync running', async (t) => {
  const app = await serveSessionApp(t);
  const watch = watchResources(t);
  const sidecar = await startTestSidecar(t, app, FULL_AT_TWO, { clock: watch.clock });
  await sidecar.stop();
  assert.equal(watch.timerCount(), 0);
  await untilNothingIsLeft(watch);
});
