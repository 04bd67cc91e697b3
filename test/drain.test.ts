/** Taking no new sessions while those that are here are served. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Sidecar } from '../src/lifecycle.ts';
import { until } from './fleet/support.ts';
import { createTestClock, type TestClock } from './support/clock.ts';
import { openRawClient } from './support/raw.ts';
import { readinessAt } from './support/readiness.ts';
import { untilNothingIsLeft, watchResources } from './support/resources.ts';
import { serveSessionApp, SESSION } from './support/session-app.ts';
import { startTestSidecar } from './support/sidecar.ts';

const urlOf = ({ ports }: Sidecar): string => `http://127.0.0.1:${ports.public}`;

/** In steps: what looks into a store after each of its timers takes some turns of the event loop. */
async function pass(clock: TestClock, ms: number): Promise<void> {
  for (let passedMs = 0; passedMs < ms; passedMs += 100) await clock.advance(100);
}

describe('a drain', () => {
  const FLEET = { FLEET: 'm2@127.0.0.1:9', DRAIN_TIMEOUT_MS: '10000' };

  test('sends new sessions elsewhere and serves its own, until its time is over', async (t) => {
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
      'elsewhere=true;timeout=10s;fallback=force_self',
    );
    const called = await fetch(url, { headers: SESSION });
    assert.equal(await called.text(), 'from the app');

    await pass(clock, 9_900);
    assert.equal(isDrained, false);
    await pass(clock, 100);
    await drained;
    assert.equal((await fetch(url, { headers: SESSION })).status, 200);
  });

  test('serves new sessions too where there is nobody else, or what comes back', async (t) => {
    const alone = await startTestSidecar(t, await serveSessionApp(t), {
      DRAIN_TIMEOUT_MS: '10000',
    });
    const one = await startTestSidecar(t, await serveSessionApp(t), FLEET);
    void alone.drain();
    void one.drain();
    const headers = { 'fly-replay-failed': 'reason=timeout' };
    for (const answer of [await fetch(urlOf(alone)), await fetch(urlOf(one), { headers })]) {
      assert.equal(await answer.text(), 'from the app');
    }
  });

  test('is over when the last session has ended', async (t) => {
    const clock = createTestClock();
    const sidecar = await startTestSidecar(t, await serveSessionApp(t), FLEET, { clock });
    await fetch(`${urlOf(sidecar)}/open`, { method: 'POST' });
    let isDrained = false;
    const drained = sidecar.drain().then(() => (isDrained = true));
    await pass(clock, 2_000);
    assert.equal(isDrained, false);
    await fetch(urlOf(sidecar), { method: 'DELETE', headers: SESSION });
    await pass(clock, 1_000);
    await drained;
  });

  test('is over when the last request is answered, and at once if there is nothing', async (t) => {
    const clock = createTestClock();
    const sidecar = await startTestSidecar(t, await serveSessionApp(t), FLEET, { clock });
    const client = await openRawClient(sidecar.ports.public);
    client.send('GET /stream HTTP/1.1\r\nHost: a\r\n\r\n');
    await client.until((text) => text.includes('first'));
    let isDrained = false;
    const drained = sidecar.drain().then(() => (isDrained = true));
    await pass(clock, 5_000);
    assert.equal(isDrained, false);
    client.socket.destroy();
    await until(async () => {
      await pass(clock, 100);
      return isDrained;
    });
    await drained;
    const idle = await startTestSidecar(t, await serveSessionApp(t), FLEET, { clock });
    await idle.drain();
  });

  test('ends with the sidecar, and leaves no timer', async (t) => {
    const app = await serveSessionApp(t);
    const watch = watchResources(t);
    const sidecar = await startTestSidecar(t, app, FLEET, { clock: watch.clock });
    const client = await openRawClient(sidecar.ports.public);
    client.send('GET /stream HTTP/1.1\r\nHost: a\r\n\r\n');
    await client.until((text) => text.includes('first'));
    const drained = sidecar.drain();
    await sidecar.stop();
    assert.equal(watch.timerCount(), 0);
    await drained;
    await client.untilClosed();
    await untilNothingIsLeft(watch);
  });
});
