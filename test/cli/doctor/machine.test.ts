/** Doctor on a Machine: beside a real sidecar, with a DNS server and real peers. */
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

test('a fleet that is well is told so, with a clock to compare', async (t) => {
  const dns = await startDns(t, ['a1', 'b2']);
  const env = environment(dns, { PEER_DIAL_PORT: String(await startPeer(t, dns)) });
  const ran = await runDoctor(['--json'], env);
  assert.deepEqual(findingsIn(ran, 'Fleet'), [
    'ok: vms.app.internal and all.vms.app.internal list this Machine.',
    'ok: 2 Machines run.',
    'ok: The sidecars of b2 answer.',
  ]);
  assert.deepEqual(findingsIn(ran, 'Clock'), ['ok: The clock agrees with b2.']);
});

test('a peer that does not know this Machine refuses it', async (t) => {
  const theirs = await startDns(t, ['b2']);
  const ours = await startDns(t, ['a1', 'b2']);
  const env = environment(ours, { PEER_DIAL_PORT: String(await startPeer(t, theirs)) });
  assert.ok((await fleet(env)).includes('error: b2 refuses this Machine (403).'));
});

test('a peer with the id of another is told from the one that was asked', async (t) => {
  const dns = await startDns(t, ['a1', 'b2', 'c3']);
  const port = await startPeer(t, dns, 'c3');
  const findings = await fleet(environment(dns, { PEER_DIAL_PORT: String(port) }));
  assert.ok(findings.includes('error: The sidecar at the address of b2 says that it is c3.'));
});

test('a port where nothing listens, and one where something else does, are told', async (t) => {
  const dns = await startDns(t, ['a1', 'b2']);
  const nobody = await freePort();
  assert.ok(
    (await fleet(environment(dns, { PEER_DIAL_PORT: String(nobody) }))).includes(
      `error: b2 does not answer on port ${nobody} (ECONNREFUSED).`,
    ),
  );
  const stranger = await serveApp(t, (_, response) => void response.end('hello'));
  assert.ok(
    (await fleet(environment(dns, { PEER_DIAL_PORT: String(stranger) }))).includes(
      `error: What answers at b2 on port ${stranger} is no sidecar of this version (200).`,
    ),
  );
});

test('a static list is asked without a DNS server', async (t) => {
  const dns = await startDns(t, ['a1', 'b2']);
  const port = await startPeer(t, dns);
  const findings = await fleet(environment(dns, { FLEET: `a1@h:1,b2@127.0.0.1:${port}` }));
  assert.deepEqual(findings, ['ok: The sidecars of b2 answer.']);
});

test('a list without this Machine, and a resolver without an answer, are errors', async (t) => {
  const without = await fleet(environment(await startDns(t, ['b2'])));
  assert.ok(without.includes('error: vms.app.internal does not list this Machine (a1).'));
  const nameless = await fleet(environment(await startScriptedDns(t)));
  assert.ok(nameless.includes('error: vms.app.internal has no answer (ENOTFOUND).'));
});

test('nobody but what the settings name is asked, and only what is needed', async (t) => {
  const dns = await startDns(t, ['a1', 'b2']);
  const heard: string[] = [];
  const listener: RequestListener = (request, response) => {
    request.setEncoding('utf8').on('data', (body: string) => {
      heard.push(`${request.method} ${request.url} ${body}`);
    });
    response.end();
  };
  const port = await serveApp(t, listener);
  await runDoctor(['--json'], environment(dns, { PEER_DIAL_PORT: String(port) }));
  assert.deepEqual(heard, ['POST /v1/ask {"from":"a1","questions":[]}']);
  assert.deepEqual([...new Set(dns.asked)].sort(), [
    'AAAA a1.vm.app.internal',
    'AAAA b2.vm.app.internal',
    'TXT all.vms.app.internal',
    'TXT vms.app.internal',
  ]);
});

test('a sidecar beside it, its app and its store are looked at', async (t) => {
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
  assert.deepEqual(findingsIn(ran, 'Sidecar'), ['ok: The sidecar runs, and is ready.']);
  assert.deepEqual(findingsIn(ran, 'App'), [
    `ok: The app takes connections at http://127.0.0.1:${appPort}.`,
  ]);
  assert.ok(findingsIn(ran, 'Store').includes(`ok: ${place.path()} is a session store.`));
  const drained = sidecar.drain();
  const draining = await runDoctor(['--json'], {
    FLY_MACHINE_ID: 'm1',
    ADMIN_PORT: String(sidecar.ports.admin),
  });
  assert.deepEqual(findingsIn(draining, 'Sidecar'), [
    'warning: The sidecar is not ready (draining).',
  ]);
  await drained;
});

test('an app that the sidecar finds down is told, though it takes connections', async (t) => {
  const app = await serveApp(t, (_, response) => void response.writeHead(503).end());
  const check = { UPSTREAM_CHECK_PATH: '/health', UPSTREAM_CHECK_INTERVAL_MS: '100' };
  const sidecar = await startTestSidecar(t, app, check);
  await until(() => sidecar.readiness().upstream?.state === 'down');
  const ran = await runDoctor(['--json'], {
    FLY_MACHINE_ID: 'm1',
    FLEET: 'off',
    ADMIN_PORT: String(sidecar.ports.admin),
  });
  assert.deepEqual(findingsIn(ran, 'Sidecar'), [
    'ok: The sidecar runs, and is ready.',
    'warning: The app is down, in its eyes: the check returned 503.',
  ]);
});

test('an admin port that something else has taken is an error', async (t) => {
  const server = createServer((_, response) => void response.end('hello'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const address = server.address();
  assert.ok(address && typeof address === 'object');
  const env = { FLY_MACHINE_ID: 'm1', ADMIN_PORT: String(address.port), FLEET: 'off' };
  assert.deepEqual(findingsIn(await runDoctor(['--json'], env), 'Sidecar'), [
    `error: What answers on ADMIN_PORT (${address.port}) is no sidecar (200).`,
  ]);
});
