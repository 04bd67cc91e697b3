/** Whole sidecars whose app is killed and restarted, behind the simulated edge. */
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { WebSocket } from 'ws';
import type { Environment } from '../../src/config/config.ts';
import { until } from '../fleet/support.ts';
import { startBehindEdge, type EdgeFleet } from '../support/behind-edge.ts';
import { freePort } from '../support/free-port.ts';
import { createMemoryLog } from '../support/log.ts';
import { openMetrics } from '../support/metrics.ts';
import { readinessAt } from '../support/readiness.ts';
import { untilNothingIsLeft, watchResources } from '../support/resources.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

const adminOf = (fleet: EdgeFleet, id: string): number =>
  fleet.machines.get(id)?.sidecar.ports.admin ?? 0;

const upstreamOf = async (port: number): Promise<Record<string, unknown>> => {
  const response = await readinessAt(port);
  return { status: response.status, ...response.upstream };
};

describe('an app that refuses connections', () => {
  test('costs a request without a session one replay, even the very first one', async (t) => {
    const fleet = await startBehindEdge(t, ['m1', 'm2']);
    await fleet.apps.get('m1')?.kill();
    for (const init of [{}, { body: 'a body' }, { body: 'x'.repeat(900_000) }]) {
      const { status, by, way } = await fleet.open('m1', init);
      assert.deepEqual([status, by, way], [200, 'm2', ['m1', 'm2']]);
    }
  });

  test('is visible to a session that lives with it', async (t) => {
    const fleet = await startBehindEdge(t, ['m1', 'm2']);
    const { session = '' } = await fleet.open('m1');
    await fleet.apps.get('m1')?.kill();
    for (const [first, way] of [
      ['m1', ['m1']],
      ['m2', ['m2', 'm1']],
    ] as const) {
      const called = await fleet.call(first, session);
      assert.deepEqual([called.status, called.way], [502, way]);
    }
  });

  test('is visible when no other Machine runs', async (t) => {
    const fleet = await startBehindEdge(t, ['m1']);
    await fleet.apps.get('m1')?.kill();
    for (let times = 0; times < 2; times += 1) {
      const { status, way } = await fleet.open('m1');
      assert.deepEqual([status, way], [502, ['m1']]);
    }
  });

  test('on all Machines is visible, after one replay', async (t) => {
    const fleet = await startBehindEdge(t, ['m1', 'm2']);
    for (const app of fleet.apps.values()) await app.kill();
    for (let times = 0; times < 2; times += 1) {
      const { status, way } = await fleet.open('m1');
      assert.deepEqual([status, way], [502, ['m1', 'm2']]);
    }
  });

  test('gets new sessions again once it listens, and does not affect readiness', async (t) => {
    const log = createMemoryLog();
    const metrics = openMetrics(t);
    const fleet = await startBehindEdge(t, ['m1', 'm2'], {}, (id) =>
      id === 'm1' ? { logger: log.logger, metrics } : {},
    );
    const gauge = async (): Promise<string | undefined> =>
      /^fly_affinity_upstream_up (\d)$/m.exec(await metrics.render())?.[1];
    assert.deepEqual(await upstreamOf(adminOf(fleet, 'm1')), { status: 200, state: 'up' });
    assert.equal(await gauge(), '1');
    await fleet.apps.get('m1')?.kill();
    await fleet.open('m1');
    const { forMs, ...down } = await upstreamOf(adminOf(fleet, 'm1'));
    assert.deepEqual(down, { status: 200, state: 'down', reason: 'connection refused' });
    assert.equal(typeof forMs, 'number');
    assert.equal(await gauge(), '0');

    await fleet.apps.get('m1')?.start();
    await until(async () => (await upstreamOf(adminOf(fleet, 'm1'))).state === 'up');
    const { by, way } = await fleet.open('m1');
    assert.deepEqual([by, way], ['m1', ['m1']]);
    const changes = log.lines.filter(({ message }) => message.startsWith('the app '));
    assert.deepEqual(
      changes.map(({ level }) => level),
      ['warn', 'info'],
    );
  });
});

/** The response of `m1` itself, while its app's port has no listener. */
async function startWithoutApp(t: TestContext, env: Environment = {}): Promise<string> {
  const settings = { FLEET: 'm2@127.0.0.1:9', ...env };
  const { ports } = await startTestSidecar(t, await freePort(), settings);
  return `127.0.0.1:${ports.public}`;
}

describe('a request whose connection was refused', () => {
  const ELSEWHERE = 'elsewhere=true;state=fly-affinity;timeout=10s;fallback=force_self';
  const rows: readonly (readonly [claim: string, init: RequestInit, replay: string | null])[] = [
    ['goes elsewhere if it has no session', {}, ELSEWHERE],
    ['goes elsewhere with its body', { method: 'POST', body: 'b' }, ELSEWHERE],
    ['stays if it has a session', { headers: { 'mcp-session-id': 'abc~m1' } }, null],
    [
      'stays if it was replayed',
      { headers: { 'fly-replay-src': 'instance=m2;state=fly-affinity' } },
      null,
    ],
    ['stays if it came back', { headers: { 'fly-replay-failed': 'reason=timeout' } }, null],
    ['stays if it is too large', { method: 'POST', body: 'x'.repeat(1_000_001) }, null],
  ];
  for (const [claim, init, replay] of rows) {
    test(claim, async (t) => {
      const host = await startWithoutApp(t);
      const response = await fetch(`http://${host}/`, { ...init, redirect: 'manual' });
      assert.equal(response.headers.get('fly-replay'), replay);
      assert.equal(response.status, replay === null ? 502 : 307);
    });
  }

  test('goes elsewhere as a WebSocket too', async (t) => {
    const host = await startWithoutApp(t);
    const socket = new WebSocket(`ws://${host}/`);
    const response = await new Promise<IncomingMessage>((resolve) =>
      socket.once('unexpected-response', (_request, response) => resolve(response)),
    );
    socket.on('error', () => undefined).terminate();
    assert.deepEqual([response.statusCode, response.headers['fly-replay']], [307, ELSEWHERE]);
  });
});

describe('UPSTREAM_CHECK_PATH', () => {
  test('sends new sessions elsewhere while the app reports that it is unhealthy', async (t) => {
    let status = 200;
    const app = await serveApp(t, (req, res) => {
      res.writeHead(req.url === '/health' ? status : 200).end('from the app');
    });
    const env = { UPSTREAM_CHECK_PATH: '/health', UPSTREAM_CHECK_INTERVAL_MS: '100' };
    const sidecar = await startTestSidecar(t, app, { FLEET: 'm2@127.0.0.1:9', ...env });
    const url = `http://127.0.0.1:${sidecar.ports.public}/`;
    const isServedHere = async (init: RequestInit = {}): Promise<boolean> =>
      (await (await fetch(url, { ...init, redirect: 'manual' })).text()) === 'from the app';
    assert.ok(await isServedHere());
    status = 503;
    await until(async () => !(await isServedHere()));
    const { reason } = await upstreamOf(sidecar.ports.admin);
    assert.equal(reason, 'the check returned 503');
    assert.ok(await isServedHere({ headers: { 'mcp-session-id': 'abc~m1' } }));
    assert.ok(await isServedHere({ headers: { 'fly-replay-failed': 'reason=timeout' } }));
    status = 204;
    await until(() => isServedHere());
  });

  test('that is redirected is reported in the log and in /readyz', async (t) => {
    const app = await serveApp(t, (_req, res) => res.writeHead(301, { location: '/login' }).end());
    const log = createMemoryLog();
    const env = { UPSTREAM_CHECK_PATH: '/health', UPSTREAM_CHECK_INTERVAL_MS: '100' };
    const sidecar = await startTestSidecar(t, app, env, { logger: log.logger });
    await until(async () => (await upstreamOf(sidecar.ports.admin)).state === 'down');
    const { reason } = await upstreamOf(sidecar.ports.admin);
    assert.match(
      String(reason),
      /^the check returned 301 to another path; redirects are not followed: set UPSTREAM_CHECK_PATH/,
    );
    const lines = log.lines.filter(({ level }) => level === 'warn');
    assert.deepEqual(
      lines.map(({ fields }) => (fields as { upstream: { reason: string } }).upstream.reason),
      [reason],
    );
  });
});

for (const env of [{}, { UPSTREAM_CHECK_PATH: '/health', UPSTREAM_CHECK_INTERVAL_MS: '100' }]) {
  test(`a stop leaves no probe running, with ${JSON.stringify(env)}`, async (t) => {
    const port = await freePort();
    const watch = watchResources(t);
    const sidecar = await startTestSidecar(t, port, env, { clock: watch.clock });
    await fetch(`http://127.0.0.1:${sidecar.ports.public}/`);
    assert.equal(sidecar.readiness().upstream?.state, 'down');
    await sidecar.stop();
    assert.equal(watch.timerCount(), 0);
    await untilNothingIsLeft(watch);
  });
}
