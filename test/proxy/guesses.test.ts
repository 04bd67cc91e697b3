/** `auto`: an id by its shape alone counts if the app has revealed it; else the request has what else it carries. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { type RequestListener } from 'node:http';
import { test, type TestContext } from 'node:test';
import type { Environment } from '../../src/config/config.ts';
import { openFleet, type TestMachine } from '../support/fleet.ts';
import { createMemoryLog } from '../support/log.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

const UUID = 'cd7e8b5a-3b7f-4b5e-9d3e-0123456789ab';

/** Mints ids of two protocols: `one` in a header, and the UUID for Jupyter. */
function appOf(at: string): RequestListener {
  return (req, res) => {
    req.resume();
    if (req.url === '/open') res.setHeader('x-session-id', 'one');
    const isKernel = req.url === '/api/kernels';
    res.setHeader('content-type', 'application/json');
    res.writeHead(200).end(JSON.stringify(isKernel ? { id: UUID } : at));
  };
}

async function startTwo(
  t: TestContext,
  env: Environment = {},
): Promise<readonly [TestMachine, TestMachine]> {
  const fleet = await openFleet(t, 'm1', 'm2');
  const m1 = await fleet.start('m1', await serveApp(t, appOf('m1')), env);
  return [m1, await fleet.start('m2', await serveApp(t, appOf('m2')), env)];
}

/** The Machine whose app serves, or the one that the replay names. */
async function machineFor(
  to: TestMachine,
  path: string,
  headers: Record<string, string> = {},
): Promise<string | undefined> {
  const response = await fetch(to.url + path, { headers, redirect: 'manual' });
  const replay = /^instance=(\w+);/.exec(response.headers.get('fly-replay') ?? '');
  const text = await response.text();
  return replay ? `replay to ${replay[1] ?? ''}` : (JSON.parse(text) as string);
}

test('an unknown text in the path does not hide the id of another protocol', async (t) => {
  const [m1, m2] = await startTwo(t);
  const opened = await fetch(`${m1.url}/open`);
  const session = { 'x-session-id': opened.headers.get('x-session-id') ?? '' };
  assert.equal(await machineFor(m2, `/api/sessions/${UUID}`, session), 'replay to m1');
  assert.equal(await machineFor(m2, '/users?id=zP3NrZ9eqOVhWvSpsNfHXg', session), 'replay to m1');
  assert.equal(await machineFor(m2, '/shop;jsessionid=OLD', session), 'replay to m1');
  assert.equal(await machineFor(m1, `/api/sessions/${UUID}`, session), 'm1');
  assert.equal(await machineFor(m2, `/api/sessions/${UUID}`), 'm2');
  assert.equal(await m1.rowCount(), 1);
});

test('a revealed id in the path counts before the id of another protocol', async (t) => {
  const [m1, m2] = await startTwo(t);
  const opened = await fetch(`${m1.url}/open`);
  const session = { 'x-session-id': opened.headers.get('x-session-id') ?? '' };
  await fetch(`${m2.url}/api/kernels`, { method: 'POST' });
  assert.equal(await machineFor(m1, `/api/kernels/${UUID}`, session), 'replay to m2');
  assert.equal(await machineFor(m2, `/api/kernels/${UUID}`, session), 'm2');
});

test('two ids of a listed protocol behind an unknown text are a conflict', async (t) => {
  const [m1] = await startTwo(t, { SESSION_PROTOCOLS: 'auto,rpc' });
  const response = await fetch(`${m1.url}/api/sessions/${UUID}?session_id=a&session_id=b`);
  assert.equal(response.status, 400);
});

test('the log shows no upload of tus, also of one that no Machine knows', async (t) => {
  const requests: object[] = [];
  const { logger } = createMemoryLog((fields) => requests.push(fields));
  const { ports } = await startTestSidecar(t, await serveApp(t, appOf('m1')), {}, { logger });
  const headers = { 'tus-resumable': '1.0.0', 'x-session-id': 'one' };
  await fetch(`http://127.0.0.1:${ports.public}/files/secret`, { method: 'HEAD', headers });
  assert.match(JSON.stringify(requests), /^\[\{.*"path":"\/files\/\*{6}".*\}\]$/);
});

test('an app that echoes one of two ids takes no session from its owner', async (t) => {
  const fleet = await openFleet(t, 'm1', 'm2');
  const app = await serveApp(t, (req, res) => {
    const [first] = req.headersDistinct['x-session-id'] ?? [];
    const query = new URLSearchParams(req.url?.split('?')[1]);
    res.setHeader('x-session-id', first ?? query.get('session_id') ?? 'one').end('"ok"');
  });
  const m1 = await fleet.start('m1', app);
  const m2 = await fleet.start('m2', app);
  await fetch(m1.url);
  const twice = ['host', 'a', 'x-session-id', 'one', 'x-session-id', 'two'];
  const [response] = (await once(
    http.get({ port: m2.sidecar.ports.public, headers: twice }),
    'response',
  )) as [http.IncomingMessage];
  assert.deepEqual([response.statusCode, response.headers['x-session-id']], [200, 'one']);
  response.resume();
  const inQuery = await fetch(`${m2.url}/?session_id=one&session_id=two`);
  assert.equal(inQuery.headers.get('x-session-id'), 'one');
  assert.equal(await machineFor(m2, '/', { 'x-session-id': 'one' }), 'replay to m1');
});
