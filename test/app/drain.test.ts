/** A drain accepts no new sessions while existing ones are served. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ASK_PATH } from '../../src/fleet/messages.ts';
import type { Sidecar } from '../../src/app/lifecycle.ts';
import { FORWARD_PATH, wrapHead } from '../../src/proxy/forwarded-head.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { machineId } from '../support/ids.ts';
import { openRawClient, type RawClient } from '../support/raw.ts';
import { readinessAt } from '../support/readiness.ts';
import { untilNothingIsLeft, watchResources } from '../support/resources.ts';
import { serveSessionApp, SESSION } from '../support/session-app.ts';
import { startTestSidecar } from '../support/sidecar.ts';

const SELF = machineId('m1');
const urlOf = ({ ports }: Sidecar): string => `http://127.0.0.1:${ports.public}`;

/** In steps: a timer that checks the store needs some turns of the event loop. */
async function pass(clock: TestClock, ms: number): Promise<void> {
  for (let passedMs = 0; passedMs < ms; passedMs += 100) await clock.advance(100);
}

/** A request whose response does not end. */
async function openStream({ ports }: Sidecar): Promise<RawClient> {
  const client = await openRawClient(ports.public);
  client.send('GET /stream HTTP/1.1\r\nHost: a\r\n\r\n');
  await client.until((text) => text.includes('first'));
  return client;
}

describe('a drain', () => {
  const FLEET = { FLEET: 'm2@127.0.0.1:9', DRAIN_TIMEOUT_MS: '10000' };

  test('sends new sessions elsewhere and serves its own, until its timeout', async (t) => {
    const clock = createTestClock();
    const sidecar = await startTestSidecar(t, await serveSessionApp(t), FLEET, { clock });
    const url = urlOf(sidecar);
    await fetch(`${url}/open`, { method: 'POST' });
    let isDrained = false;
    const drained = sidecar.drain().then(() => (isDrained = true));
    assert.equal(sidecar.drain(), sidecar.drain());

    const { status, reason } = await readinessAt(sidecar.ports.admin);
    assert.deepEqual([status, reason], [503, 'draining']);
    const opened = await fetch(`${url}/open`, { method: 'POST', redirect: 'manual' });
    assert.equal(
      opened.headers.get('fly-replay'),
      'elsewhere=true;state=fly-affinity;timeout=10s;fallback=force_self',
    );
    for (let calls = 0; calls < 20; calls += 1) {
      const called = await fetch(url, { headers: SESSION });
      assert.equal(await called.text(), 'from the app');
      await pass(clock, calls < 19 ? 500 : 400);
    }
    assert.equal(isDrained, false);
    await pass(clock, 100);
    await drained;
    assert.equal((await fetch(url, { headers: SESSION })).status, 200);
  });

  test('serves new sessions too when no other Machine runs, and requests that came back', async (t) => {
    const alone = await startTestSidecar(t, await serveSessionApp(t), {
      DRAIN_TIMEOUT_MS: '10000',
    });
    const one = await startTestSidecar(t, await serveSessionApp(t), FLEET);
    void alone.drain();
    void one.drain();
    const headers = { 'fly-replay-failed': 'reason=timeout' };
    for (const response of [await fetch(urlOf(alone)), await fetch(urlOf(one), { headers })]) {
      assert.equal(await response.text(), 'from the app');
    }
  });

  test('ends a second after the last request has ended, whatever sessions live here', async (t) => {
    const clock = createTestClock();
    const sidecar = await startTestSidecar(t, await serveSessionApp(t), FLEET, { clock });
    await fetch(`${urlOf(sidecar)}/open`, { method: 'POST' });
    const client = await openStream(sidecar);
    let isDrained = false;
    const drained = sidecar.drain().then(() => (isDrained = true));
    await pass(clock, 5_000);
    assert.equal(isDrained, false);
    client.socket.destroy();
    for (let calls = 0; calls < 4; calls += 1) {
      await fetch(urlOf(sidecar), { headers: SESSION });
      await pass(clock, 900);
    }
    assert.equal(isDrained, false);
    await pass(clock, 100);
    await drained;
  });

  test('ends immediately when no request has arrived for a second', async (t) => {
    const clock = createTestClock();
    const sidecar = await startTestSidecar(t, await serveSessionApp(t), FLEET, { clock });
    await fetch(`${urlOf(sidecar)}/open`, { method: 'POST' });
    await pass(clock, 1_000);
    await sidecar.drain();
  });

  test('waits for requests that peers forward, and not for their queries, nor for health checks', async (t) => {
    const clock = createTestClock();
    const sidecar = await startTestSidecar(t, await serveSessionApp(t), FLEET, { clock });
    const ofPeer = (path: string, init: RequestInit): Promise<Response> =>
      fetch(`http://127.0.0.1:${sidecar.ports.peer}${path}`, init);
    const forward = (): Promise<Response> => {
      const head = wrapHead({ target: '/', rawHeaders: ['Host', 'a'] }, SELF, 'a:1');
      const headers: [string, string][] = [];
      for (let i = 0; i < head.length; i += 2) headers.push([head[i] ?? '', head[i + 1] ?? '']);
      return ofPeer(FORWARD_PATH, { headers });
    };
    const query = (): Promise<Response> =>
      ofPeer(ASK_PATH, { method: 'POST', body: '{"from":"m2","questions":[]}' });

    assert.equal(await (await forward()).text(), 'from the app');
    let isDrained = false;
    const drained = sidecar.drain().then(() => (isDrained = true));
    await pass(clock, 900);
    assert.equal((await forward()).status, 200);
    await pass(clock, 900);
    assert.equal(isDrained, false);
    assert.deepEqual(
      [(await query()).status, (await readinessAt(sidecar.ports.admin)).status],
      [200, 503],
    );
    await pass(clock, 100);
    await drained;
  });

  test('ends with the sidecar, and leaves no timer', async (t) => {
    const app = await serveSessionApp(t);
    const watch = watchResources(t);
    const sidecar = await startTestSidecar(t, app, FLEET, { clock: watch.clock });
    const client = await openStream(sidecar);
    const drained = sidecar.drain();
    await sidecar.stop();
    assert.equal(watch.timerCount(), 0);
    await drained;
    await client.untilClosed();
    await untilNothingIsLeft(watch);
  });
});
