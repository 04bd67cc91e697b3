/** A complete sidecar and a changing list of Machines: the owner is stopped or destroyed. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Environment } from '../../src/config/config.ts';
import { until } from '../fleet/support.ts';
import { createTestClock } from '../support/clock.ts';
import { startScriptedDns } from '../support/dns.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

const READING_MS = 5_000;
/** Far more readings than the confirmation needs. */
const MANY_READINGS = 10;

interface Requests {
  /** Sends a request of a session of m2. Returns its `fly-replay`, or its status. */
  readonly sendWithSession: (id?: string) => Promise<string>;
  /** The same with a session cookie of the app. */
  readonly sendWithSessionCookie: () => Promise<string>;
  /** The same with an affinity cookie of m2. */
  readonly sendWithCookie: () => Promise<string>;
  readonly untilNextReading: () => Promise<void>;
  /** Starts m2 after the last reading of the list. */
  readonly wake: () => Promise<void>;
}

/** Starts m1 with a list in which the other deployed Machines do not run. */
async function startM1(t: TestContext, others: string, env: Environment = {}): Promise<Requests> {
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
  const readings = (): number =>
    dns.queries.filter((name) => name === 'TXT vms.app.internal').length;
  const outcomeOf = async (headers: Record<string, string>): Promise<string> => {
    const url = `http://127.0.0.1:${sidecar.ports.public}/rpc`;
    // Without this, another read of the list would be rate limited.
    await clock.advance(500);
    const response = await fetch(url, { headers, redirect: 'manual' });
    await response.text();
    return response.headers.get('fly-replay') ?? String(response.status);
  };
  return {
    sendWithSession: (id = 'abc~m2') => outcomeOf({ 'mcp-session-id': id }),
    sendWithSessionCookie: () => outcomeOf({ cookie: 'sid=abc~m2' }),
    sendWithCookie: () => outcomeOf({ cookie: 'aff=m2.thz3f1' }),
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

test('a stopped owner is woken by a replay, even after a long time', async (t) => {
  const { sendWithSession, untilNextReading } = await startM1(t, ',m2 ams');
  for (let i = 0; i < MANY_READINGS; i += 1) await untilNextReading();
  assert.equal(await sendWithSession(), REPLAY);
});

test('with OWNER_STOPPED=gone a stopped owner is gone once confirmed, and not woken', async (t) => {
  const { sendWithSession, untilNextReading } = await startM1(t, ',m2 ams', {
    OWNER_STOPPED: 'gone',
  });
  assert.equal(await sendWithSession(), REPLAY);
  await until(async () => {
    await untilNextReading();
    return (await sendWithSession()) === '404';
  });
});

test('with OWNER_STOPPED=gone and OWNER_GONE=adopt this Machine takes over its session', async (t) => {
  const policy = { OWNER_STOPPED: 'gone', OWNER_GONE: 'adopt' };
  const { sendWithSession, untilNextReading } = await startM1(t, ',m2 ams', policy);
  await until(async () => {
    await untilNextReading();
    return (await sendWithSession()) === '200';
  });
});

test('with OWNER_STOPPED=gone a cookie of a Machine that has just started is followed', async (t) => {
  const policy = { OWNER_STOPPED: 'gone', AFFINITY_COOKIE: 'aff' };
  const { sendWithCookie, untilNextReading, wake } = await startM1(t, ',m2 ams', policy);
  await until(async () => {
    await untilNextReading();
    return (await sendWithCookie()) === '200';
  });
  await wake();
  assert.equal(await sendWithCookie(), REPLAY.replace('timeout=10s', 'timeout=3s'));
});

test('a destroyed owner is gone once confirmed, without a replay', async (t) => {
  const { sendWithSession, untilNextReading } = await startM1(t, '');
  assert.equal(await sendWithSession(), REPLAY);
  await until(async () => {
    await untilNextReading();
    return (await sendWithSession()) === '404';
  });
});

for (const policy of [{}, { UNKNOWN_SESSION: 'reject' }]) {
  const text = JSON.stringify(policy);

  test(`a session cookie of a destroyed owner is served by any Machine (${text})`, async (t) => {
    const env = { SESSION_PROTOCOLS: 'cookie:sid', ...policy };
    const { sendWithSessionCookie, untilNextReading } = await startM1(t, '', env);
    assert.equal(await sendWithSessionCookie(), REPLAY);
    await until(async () => {
      await untilNextReading();
      const outcome = await sendWithSessionCookie();
      assert.notEqual(outcome, '404');
      return outcome === '200';
    });
  });
}
