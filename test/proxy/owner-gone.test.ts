/** A whole sidecar and a list of Machines that changes: an owner that is stopped, or destroyed. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Environment } from '../../src/config/config.ts';
import { until } from '../fleet/support.ts';
import { createTestClock } from '../support/clock.ts';
import { startScriptedDns } from '../support/dns.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

const READING_MS = 5_000;
/** Far more than it takes to be sure. */
const MANY_READINGS = 10;

interface Asking {
  /** What becomes of a request for a session of m2, as its `fly-replay` or its status. */
  readonly ask: (id?: string) => Promise<string>;
  /** The same for a browser that has a cookie of m2. */
  readonly visit: () => Promise<string>;
  readonly untilNextReading: () => Promise<void>;
  /** m2 runs from now on, which the last reading does not know yet. */
  readonly wake: () => Promise<void>;
}

/** m1, for which the others that are deployed do not run. */
async function open(t: TestContext, others: string, env: Environment = {}): Promise<Asking> {
  const dns = await startScriptedDns(t);
  dns.txt.set('vms.app.internal', 'm1 ams');
  dns.txt.set('all.vms.app.internal', `m1 ams${others}`);
  const clock = createTestClock();
  const app = await serveApp(t, (_, response) => response.end('served here'));
  const fleet = {
    FLEET: 'auto',
    FLY_APP_NAME: 'app',
    FLEET_RESOLVER: dns.server,
    PEER_DIAL_PORT: '1',
  };
  const sidecar = await startTestSidecar(t, app, { ...fleet, ...env }, { clock });
  const readings = (): number => dns.asked.filter((name) => name === 'TXT vms.app.internal').length;
  const fateOf = async (headers: Record<string, string>): Promise<string> => {
    const url = `http://127.0.0.1:${sidecar.ports.public}/rpc`;
    // Else one more look at the list would have to wait for its turn.
    await clock.advance(500);
    const answer = await fetch(url, { headers, redirect: 'manual' });
    await answer.text();
    return answer.headers.get('fly-replay') ?? String(answer.status);
  };
  return {
    ask: (id = 'abc~m2') => fateOf({ 'mcp-session-id': id }),
    visit: () => fateOf({ cookie: 'aff=m2.thz3f1' }),
    wake: async () => {
      dns.txt.set('vms.app.internal', 'm1 ams,m2 ams');
      dns.aaaa.set('m2.vm.app.internal', ['fdaa::2']);
      await clock.advance(500);
    },
    untilNextReading: async () => {
      const before = readings();
      await until(async () => {
        await clock.advance(READING_MS);
        return readings() > before;
      });
    },
  };
}

const REPLAY = 'instance=m2;state=fly-affinity;timeout=10s;fallback=prefer_self';

test('a stopped owner is woken by a replay, however long it has been stopped', async (t) => {
  const { ask, untilNextReading } = await open(t, ',m2 ams');
  for (let i = 0; i < MANY_READINGS; i += 1) await untilNextReading();
  assert.equal(await ask(), REPLAY);
});

test('with OWNER_STOPPED=gone a stopped owner is gone once that is sure, and not woken', async (t) => {
  const { ask, untilNextReading } = await open(t, ',m2 ams', { OWNER_STOPPED: 'gone' });
  assert.equal(await ask(), REPLAY);
  await until(async () => {
    await untilNextReading();
    return (await ask()) === '404';
  });
});

test('with OWNER_STOPPED=gone and OWNER_GONE=adopt its session goes on here', async (t) => {
  const policy = { OWNER_STOPPED: 'gone', OWNER_GONE: 'adopt' };
  const { ask, untilNextReading } = await open(t, ',m2 ams', policy);
  await until(async () => {
    await untilNextReading();
    return (await ask()) === '200';
  });
});

test('with OWNER_STOPPED=gone a cookie of a Machine that was woken just now is followed', async (t) => {
  const policy = { OWNER_STOPPED: 'gone', AFFINITY_COOKIE: 'aff' };
  const { visit, untilNextReading, wake } = await open(t, ',m2 ams', policy);
  await until(async () => {
    await untilNextReading();
    return (await visit()) === '200';
  });
  await wake();
  assert.equal(await visit(), REPLAY.replace('timeout=10s', 'timeout=3s'));
});

test('a destroyed owner is gone once that is sure, without a replay', async (t) => {
  const { ask, untilNextReading } = await open(t, '');
  assert.equal(await ask(), REPLAY);
  await until(async () => {
    await untilNextReading();
    return (await ask()) === '404';
  });
});
