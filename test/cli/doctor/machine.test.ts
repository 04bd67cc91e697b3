/** Doctor on a Machine: with a real sidecar, a DNS server and real peers. */
import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import type { Environment } from '../../../src/config/config.ts';
import { until } from '../../fleet/support.ts';
import { createPlace } from '../../store/place.ts';
import { startScriptedDns, type ScriptedDns } from '../../support/dns.ts';
import { freePort } from '../../support/free-port.ts';
import { serveApp, startTestSidecar } from '../../support/sidecar.ts';
import { findingsIn, runDoctor } from './support.ts';

const ADDRESS = '::ffff:127.0.0.1';

async function startDns(t: TestContext, machines: readonly string[]): Promise<ScriptedDns> {
  const dns = await startScriptedDns(t);
  const list = machines.map((id) => `${id} fra`).join(',');
  dns.txt.set('vms.app.internal', list).set('all.vms.app.internal', list);
  for (const id of machines) dns.aaaa.set(`${id}.vm.app.internal`, [ADDRESS]);
  return dns;
}

/** Machine b2 of the app; returns the port of its peer listener. */
async function startPeer(t: TestContext, dns: ScriptedDns, id = 'b2'): Promise<number> {
  const appPort = await serveApp(t, (_, response) => void response.end());
  const env = {
    FLY_MACHINE_ID: id,
    FLY_APP_NAME: 'app',
    FLEET: 'auto',
    FLEET_RESOLVER: dns.server,
    PEER_DIAL_PORT: '1',
  };
  return (await startTestSidecar(t, appPort, env)).ports.peer;
}

function environment(dns: ScriptedDns, more: Environment = {}): Environment {
  return {
    FLY_MACHINE_ID: 'a1',
    FLY_APP_NAME: 'app',
    FLEET_RESOLVER: dns.server,
    SESSION_STORE_URL: 'memory:',
    ...more,
  };
}

const fleet = async (env: Environment): Promise<string[]> =>
  findingsIn(await runDoctor(['--json'], env), 'Fleet');

test('a healthy fleet is reported so, with a clock to compare', async (t) => {
  const dns = await startDns(t, ['a1', 'b2']);
  const env = environment(dns, { PEER_DIAL_PORT: String(await startPeer(t, dns)) });
  const ran = await runDoctor(['--json'], env);
  assert.deepEqual(findingsIn(ran, 'Fleet'), [
    'ok: vms.app.internal and all.vms.app.internal list this Machine.',
    'ok: 2 Machines are running.',
    'ok: The sidecars of b2 respond.',
  ]);
  assert.deepEqual(findingsIn(ran, 'Clock'), ['ok: The clock agrees with b2.']);
});

test('a peer that does not know this Machine rejects it', async (t) => {
  const theirs = await startDns(t, ['b2']);
  const ours = await startDns(t, ['a1', 'b2']);
  const env = environment(ours, { PEER_DIAL_PORT: String(await startPeer(t, theirs)) });
  assert.ok((await fleet(env)).includes('error: b2 rejects requests from this Machine (403).'));
});

test('a peer with the id of another Machine is reported', async (t) => {
  const dns = await startDns(t, ['a1', 'b2', 'c3']);
  const port = await startPeer(t, dns, 'c3');
  const findings = await fleet(environment(dns, { PEER_DIAL_PORT: String(port) }));
  assert.ok(findings.includes('error: The sidecar at the address of b2 reports the id c3.'));
});

test('a port without a listener, and one with another program, are reported', async (t) => {
  const dns = await startDns(t, ['a1', 'b2']);
  const closedPort = await freePort();
  assert.ok(
    (await fleet(environment(dns, { PEER_DIAL_PORT: String(closedPort) }))).includes(
      `error: b2 does not respond on port ${closedPort} (ECONNREFUSED).`,
    ),
  );
  const otherPort = await serveApp(t, (_, response) => void response.end('hello'));
  assert.ok(
    (await fleet(environment(dns, { PEER_DIAL_PORT: String(otherPort) }))).includes(
      `error: b2 does not run a compatible sidecar on port ${otherPort} (status 200).`,
    ),
  );
});

test('a static list is probed without a DNS server', async (t) => {
  const dns = await startDns(t, ['a1', 'b2']);
  const port = await startPeer(t, dns);
  const findings = await fleet(environment(dns, { FLEET: `a1@h:1,b2@127.0.0.1:${port}` }));
  assert.deepEqual(findings, ['ok: The sidecars of b2 respond.']);
});

test('a list without this Machine, and a resolver without a response, are errors', async (t) => {
  const without = await fleet(environment(await startDns(t, ['b2'])));
  assert.ok(without.includes('error: vms.app.internal does not list this Machine (a1).'));
  const nameless = await fleet(environment(await startScriptedDns(t)));
  assert.ok(nameless.includes('error: The DNS lookup of vms.app.internal failed (ENOTFOUND).'));
});

test('only what the settings name is queried, and only what is needed', async (t) => {
  const dns = await startDns(t, ['a1', 'b2']);
  const received: string[] = [];
  const listener: RequestListener = (request, response) => {
    request.setEncoding('utf8').on('data', (body: string) => {
      received.push(`${request.method} ${request.url} ${body}`);
    });
    response.end();
  };
  const port = await serveApp(t, listener);
  await runDoctor(['--json'], environment(dns, { PEER_DIAL_PORT: String(port) }));
  assert.deepEqual(received, ['POST /v1/ask {"from":"a1","questions":[]}']);
  assert.deepEqual([...new Set(dns.queries)].sort(), [
    'AAAA a1.vm.app.internal',
    'AAAA b2.vm.app.internal',
    'TXT all.vms.app.internal',
    'TXT vms.app.internal',
  ]);
});

test('a sidecar on the same Machine, its app and its store are checked', async (t) => {
  const place = await createPlace(t);
  const appPort = await serveApp(t, (_, response) => void response.end());
  const env = { SESSION_STORE_URL: '', SESSION_STORE_PATH: place.path() };
  const sidecar = await startTestSidecar(t, appPort, env);
  const ran = await runDoctor(['--json'], {
    FLY_MACHINE_ID: 'm1',
    FLEET: 'off',
    HOST: '127.0.0.1',
    ADMIN_PORT: String(sidecar.ports.admin),
    UPSTREAM_URL: `http://127.0.0.1:${appPort}`,
    SESSION_STORE_PATH: place.path(),
  });
  assert.deepEqual(findingsIn(ran, 'Sidecar'), ['ok: The sidecar is running and ready.']);
  assert.deepEqual(findingsIn(ran, 'App'), [
    `ok: The app accepts connections at http://127.0.0.1:${appPort}.`,
  ]);
  assert.ok(findingsIn(ran, 'Store').includes(`ok: ${place.path()} is a session store.`));
  const drained = sidecar.drain();
  const draining = await runDoctor(['--json'], {
    FLY_MACHINE_ID: 'm1',
    ADMIN_PORT: String(sidecar.ports.admin),
    SESSION_STORE_URL: 'memory:',
  });
  assert.deepEqual(findingsIn(draining, 'Sidecar'), [
    'warning: The sidecar is not ready (draining).',
  ]);
  await drained;
});

test('an app that the sidecar considers down is reported, though it accepts connections', async (t) => {
  const app = await serveApp(t, (_, response) => void response.writeHead(503).end());
  const check = { UPSTREAM_CHECK_PATH: '/health', UPSTREAM_CHECK_INTERVAL_MS: '100' };
  const sidecar = await startTestSidecar(t, app, check);
  await until(() => sidecar.readiness().upstream?.state === 'down');
  const ran = await runDoctor(['--json'], {
    FLY_MACHINE_ID: 'm1',
    FLEET: 'off',
    ADMIN_PORT: String(sidecar.ports.admin),
    SESSION_STORE_URL: 'memory:',
  });
  assert.deepEqual(findingsIn(ran, 'Sidecar'), [
    'ok: The sidecar is running and ready.',
    'warning: The sidecar reports that the app is down: the check returned 503.',
  ]);
});

test('an admin port that another program uses is an error', async (t) => {
  const server = createServer((_, response) => void response.end('hello'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const address = server.address();
  assert.ok(address && typeof address === 'object');
  const env = {
    FLY_MACHINE_ID: 'm1',
    FLEET: 'off',
    ADMIN_PORT: String(address.port),
    SESSION_STORE_URL: 'memory:',
  };
  assert.deepEqual(findingsIn(await runDoctor(['--json'], env), 'Sidecar'), [
    `error: Another program listens on ADMIN_PORT (${address.port}); it returned status 200.`,
  ]);
});
