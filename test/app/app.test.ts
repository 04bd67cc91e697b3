/** Whole sidecars from start to stop. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTcpServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { systemClock } from '../../src/clock.ts';
import { WARN_AFTER_MS } from '../../src/fleet/directory.ts';
import type { Sidecar } from '../../src/app/lifecycle.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import { until } from '../fleet/support.ts';
import { createTestClock } from '../support/clock.ts';
import { startScriptedDns, type ScriptedDns } from '../support/dns.ts';
import { freePort } from '../support/free-port.ts';
import { keyOf } from '../support/ids.ts';
import { createMemoryLog } from '../support/log.ts';
import { openMetrics } from '../support/metrics.ts';
import { openRawClient } from '../support/raw.ts';
import { readinessAt } from '../support/readiness.ts';
import { untilNothingIsLeft, watchResources } from '../support/resources.ts';
import { serveSessionApp } from '../support/session-app.ts';
import { serve, startTestSidecar } from '../support/sidecar.ts';

const urlOf = ({ ports }: Sidecar): string => `http://127.0.0.1:${ports.public}`;

function temporaryDirectory(t: TestContext): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'fly-affinity-app-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

const isListening = async (port: number): Promise<boolean> => {
  try {
    (await openRawClient(port)).socket.destroy();
    return true;
  } catch {
    return false;
  }
};

describe('a start', () => {
  test('selects free ports for 0 and reports them', async (t) => {
    const { ports } = await startTestSidecar(t, await serveSessionApp(t));
    assert.equal(new Set(Object.values(ports)).size, 3);
    for (const port of Object.values(ports)) assert.ok(await isListening(port));
  });

  test('opens the public port last, before the app responds, and is not ready until it does', async (t) => {
    const [PORT, PEER_PORT, ADMIN_PORT] = [
      await freePort(),
      await freePort(),
      await freePort(),
    ].map(String);
    const env = { PORT, PEER_PORT, ADMIN_PORT };
    let checkCount = 0;
    const untilAppListens = async (): Promise<void> => {
      checkCount += 1;
      const { status, reason } = await readinessAt(Number(ADMIN_PORT));
      assert.deepEqual([status, reason], [503, 'starting']);
      assert.ok(await isListening(Number(PEER_PORT)));
      assert.ok(await isListening(Number(PORT)));
    };
    const sidecar = await startTestSidecar(t, await serveSessionApp(t), env, { untilAppListens });
    assert.equal(checkCount, 1);
    assert.ok(await isListening(sidecar.ports.public));
    assert.equal((await readinessAt(sidecar.ports.admin)).status, 200);
  });

  for (const name of ['PORT', 'PEER_PORT', 'ADMIN_PORT']) {
    test(`that finds its ${name} in use reports it and stops what it has started`, async (t) => {
      const taker = createTcpServer().listen(0, '127.0.0.1');
      await once(taker, 'listening');
      t.after(() => taker.close());
      const { port } = taker.address() as AddressInfo;
      const app = await serveSessionApp(t);
      const dir = temporaryDirectory(t);
      const watch = watchResources(t);
      const env = { [name]: String(port), FLEET: 'm2@127.0.0.1:9', ...storeIn(dir) };
      await assert.rejects(startTestSidecar(t, app, env, { clock: watch.clock }), {
        message: `cannot listen on 127.0.0.1:${port}: another process listens on it`,
      });
      await untilNothingIsLeft(watch);
    });
  }

  test('whose app does not start stops what it has started', async (t) => {
    const watch = watchResources(t);
    const untilAppListens = (): Promise<void> => Promise.reject(new Error('no app'));
    const parts = { clock: watch.clock, untilAppListens };
    await assert.rejects(startTestSidecar(t, 9, {}, parts), { message: 'no app' });
    await untilNothingIsLeft(watch);
  });
});

function storeIn(dir: string): Record<string, string> {
  return { SESSION_STORE_URL: '', SESSION_STORE_PATH: path.join(dir, 'sessions.sqlite') };
}

describe('a store that cannot be opened', () => {
  test('is reported in one warning, replaced by memory, and shown as degraded', async (t) => {
    const blocker = path.join(temporaryDirectory(t), 'file');
    writeFileSync(blocker, '');
    const log = createMemoryLog();
    const metrics = openMetrics(t);
    const parts = { logger: log.logger, metrics };
    const sidecar = await startTestSidecar(t, await serveSessionApp(t), storeIn(blocker), parts);
    assert.equal(log.messages('warn').length, 1);
    assert.match(
      log.messages('warn')[0] ?? '',
      /^session store failing: lookups use the local copy/,
    );
    const { status, store } = await readinessAt(sidecar.ports.admin);
    assert.deepEqual([status, store.kind], [200, 'sqlite']);
    assert.deepEqual([store.state, store.failing, store.code], ['degraded', 'all', 'fatal']);
    const scrape = await fetch(`http://127.0.0.1:${sidecar.ports.admin}/metrics`);
    assert.match(await scrape.text(), /^fly_affinity_store_degraded 1$/m);
    const opened = await fetch(`${urlOf(sidecar)}/open`, { method: 'POST' });
    assert.equal(opened.headers.get('mcp-session-id'), 'abc~m1');
    assert.equal((await readinessAt(sidecar.ports.admin)).store.writeBack?.depth, 1);
  });

  test('is named in its warning, with the reason', async (t) => {
    const blocker = path.join(temporaryDirectory(t), 'file');
    writeFileSync(blocker, '');
    const { logger, lines } = createMemoryLog();
    await startTestSidecar(t, await serveSessionApp(t), storeIn(blocker), { logger });
    const warning = lines.find(({ level }) => level === 'warn');
    const { store } = warning?.fields as { store: { reason: string } };
    assert.ok(store.reason.includes(path.join(blocker, 'sessions.sqlite')));
    assert.match(store.reason, /its directory cannot be created/);
  });

  test('is opened as soon as possible, and receives the bindings made until then', async (t) => {
    const dir = temporaryDirectory(t);
    const blocker = path.join(dir, 'file');
    writeFileSync(blocker, '');
    const sidecar = await startTestSidecar(t, await serveSessionApp(t), storeIn(blocker));
    const opened = await fetch(`${urlOf(sidecar)}/open`, { method: 'POST' });
    assert.equal(opened.headers.get('mcp-session-id'), 'abc~m1');
    rmSync(blocker);
    await until(async () => (await readinessAt(sidecar.ports.admin)).store.state === 'healthy');
    assert.equal(await ownerIn(blocker, 'abc'), 'm1');
  });
});

describe('a stop', () => {
  test('aborts what is still open, WebSockets too', { timeout: 10_000 }, async (t) => {
    const app = createServer();
    const sockets = new WebSocketServer({ server: app });
    t.after(() => sockets.clients.forEach((socket) => socket.terminate()));
    const sidecar = await startTestSidecar(t, await serve(t, app));
    const client = new WebSocket(`ws://127.0.0.1:${sidecar.ports.public}/`);
    t.after(() => client.terminate());
    await once(client, 'open');
    const closed = once(client, 'close') as Promise<[number]>;
    await sidecar.stop();
    assert.equal((await closed)[0], 1006);
  });

  test('writes discovered bindings, closes every port, and has no further effect the second time', async (t) => {
    const dir = temporaryDirectory(t);
    const sidecar = await startTestSidecar(t, await serveSessionApp(t), storeIn(dir));
    const opened = await fetch(`${urlOf(sidecar)}/open`, { method: 'POST' });
    assert.equal(opened.headers.get('mcp-session-id'), 'abc~m1');
    const stopped = sidecar.stop();
    assert.equal(sidecar.stop(), stopped);
    await stopped;
    for (const port of Object.values(sidecar.ports)) assert.ok(!(await isListening(port)));
    assert.equal(await ownerIn(dir, 'abc'), 'm1');
  });
});

async function ownerIn(dir: string, id: string): Promise<string | undefined> {
  const store = await openSqliteStore({
    path: path.join(dir, 'sessions.sqlite'),
    clock: systemClock,
    limits: { maxSessions: 100, maxAgeMs: 0 },
    retryCount: 0,
    retryDelayMs: 0,
    random: () => 0.5,
  });
  const found = store.lookup(keyOf(id));
  await store.close();
  return typeof found === 'string' ? undefined : found.machine;
}

describe('a Machine of a Fly app', () => {
  const inApp = ({ server }: ScriptedDns, env: Record<string, string>): Record<string, string> => ({
    FLY_APP_NAME: 'app',
    FLEET_RESOLVER: server,
    PEER_DIAL_PORT: '9',
    ...env,
  });

  async function dnsOf(t: TestContext, machines: string): Promise<ScriptedDns> {
    const dns = await startScriptedDns(t);
    dns.txt.set('vms.app.internal', machines);
    dns.txt.set('all.vms.app.internal', machines);
    return dns;
  }

  test('warns once, in the background, that other Machines run although FLEET=off', async (t) => {
    const dns = await dnsOf(t, 'm1 ams,m2 ams');
    const log = createMemoryLog();
    const env = inApp(dns, { FLEET: 'off' });
    await startTestSidecar(t, await serveSessionApp(t), env, { logger: log.logger });
    await until(() => log.messages('warn').length > 0);
    assert.equal(log.messages('warn').length, 1);
    assert.match(
      log.messages('warn')[0] ?? '',
      /^other Machines of this app run, but with FLEET=off/,
    );
  });

  test('does not warn when it is alone', async (t) => {
    const dns = await dnsOf(t, 'm1 ams');
    const clock = createTestClock();
    const log = createMemoryLog();
    const env = inApp(dns, { FLEET: 'off', SESSION_STORE_CLEANUP_INTERVAL_MS: '0' });
    await startTestSidecar(t, await serveSessionApp(t), env, { logger: log.logger, clock });
    await until(() => dns.queries.length === 3 && clock.pendingCount() === 0);
    assert.deepEqual(log.messages('warn'), []);
  });

  test('starts immediately though the name server is unresponsive, and warns of it after a minute', async (t) => {
    const dns = await startScriptedDns(t);
    dns.isUnresponsive = true;
    for (const [FLEET, warnings] of [
      ['off', 0],
      ['auto', 1],
    ] as const) {
      const clock = createTestClock();
      const log = createMemoryLog();
      const parts = { logger: log.logger, clock };
      const starting = startTestSidecar(t, await serveSessionApp(t), inApp(dns, { FLEET }), parts);
      await until(async () => {
        await clock.advance(100);
        return hasSettled(starting);
      });
      await clock.advance(WARN_AFTER_MS);
      const blind = log.messages('warn').filter((text) => text.includes('still unreadable'));
      assert.equal(blind.length, warnings);
      await (await starting).stop();
    }
  });
});

async function hasSettled(work: Promise<unknown>): Promise<boolean> {
  const pending = Symbol();
  return (await Promise.race([work, Promise.resolve(pending)])) !== pending;
}
