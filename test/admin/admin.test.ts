import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { startAdmin, type Admin, type Readiness } from '../../src/admin/admin.ts';
import { listen } from '../../src/http/listen.ts';
import { nullLogger } from '../../src/observability/log.ts';
import { createServer, connect } from 'node:net';
import { once } from 'node:events';

const READY: Readiness = { ready: true, store: { kind: 'sqlite' }, fleet: { kind: 'off' } };
const DRAINING: Readiness = { ...READY, ready: false, reason: 'draining' };

interface Given {
  readonly readiness?: Readiness;
  readonly render?: () => Promise<string>;
}

async function openAdmin(
  t: TestContext,
  given: Given = {},
): Promise<{ admin: Admin; url: string }> {
  const admin = await startAdmin({
    host: '127.0.0.1',
    port: 0,
    logger: nullLogger,
    readiness: () => given.readiness ?? READY,
    metrics: {
      render: given.render ?? (() => Promise.resolve('up 1\n')),
      contentType: 'text/x-metrics',
    },
  });
  t.after(() => admin.stop());
  return { admin, url: `http://127.0.0.1:${admin.port}` };
}

for (const [method, target, status, body] of [
  ['GET', '/livez', 200, 'ok\n'],
  ['GET', '/metrics', 200, 'up 1\n'],
  ['GET', '/metrics?x=1', 200, 'up 1\n'],
  ['GET', '/readyz', 200, `${JSON.stringify(READY)}\n`],
  ['HEAD', '/readyz', 200, ''],
  ['HEAD', '/metrics', 200, ''],
  ['POST', '/metrics', 405, 'method not allowed\n'],
  ['GET', '/', 404, 'not found\n'],
  ['GET', '/sessions', 404, 'not found\n'],
  ['POST', '/livez/', 404, 'not found\n'],
] as const) {
  test(`${method} ${target} is answered ${status}`, async (t) => {
    const { url } = await openAdmin(t);
    const response = await fetch(url + target, { method });
    assert.equal(response.status, status);
    assert.equal(await response.text(), body);
  });
}

test('metrics come in the type that Prometheus expects', async (t) => {
  const { url } = await openAdmin(t);
  const response = await fetch(`${url}/metrics`);
  assert.equal(response.headers.get('content-type'), 'text/x-metrics');
  assert.equal(response.headers.get('content-length'), '5');
});

test('a sidecar that is not ready says why, with 503', async (t) => {
  const { url } = await openAdmin(t, { readiness: DRAINING });
  const response = await fetch(`${url}/readyz`);
  assert.equal(response.status, 503);
  assert.deepEqual(await response.json(), DRAINING);
  assert.equal((await fetch(`${url}/livez`)).status, 200);
});

test('metrics that fail are a 500 without a word from inside', async (t) => {
  const { url } = await openAdmin(t, { render: () => Promise.reject(new Error('inside')) });
  const response = await fetch(`${url}/metrics`);
  assert.equal(response.status, 500);
  assert.equal(await response.text(), 'failed\n');
});

test('stopping does not wait for those who are connected', async (t) => {
  const { admin } = await openAdmin(t);
  const socket = connect(admin.port, '127.0.0.1');
  await once(socket, 'connect');
  const closed = once(socket, 'close');
  socket.on('error', () => undefined);
  await Promise.all([admin.stop(), admin.stop()]);
  await closed;
});

test('a port that is taken is named in the error', async (t) => {
  const { admin } = await openAdmin(t);
  const again = listen(createServer(), { host: '127.0.0.1', port: admin.port });
  await assert.rejects(again, {
    message: `cannot listen on 127.0.0.1:${admin.port}: something else listens there`,
  });
});
