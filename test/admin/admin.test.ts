/** The admin listener: health endpoints, and the router's behavior for every endpoint. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, connect, type Socket } from 'node:net';
import { test } from 'node:test';
import type { Readiness } from '../../src/admin/health.ts';
import { listen } from '../../src/http/listener.ts';
import { until } from '../fleet/support.ts';
import { AUTHORIZED, openAdmin, READY } from './support.ts';

const DRAINING: Readiness = { ...READY, ready: false, reason: 'draining' };

for (const [method, target, status, body] of [
  ['GET', '/livez', 200, 'ok\n'],
  ['GET', '/metrics', 200, 'up 1\n'],
  ['GET', '/metrics?x=1', 200, 'up 1\n'],
  ['GET', '/readyz', 200, `${JSON.stringify(READY)}\n`],
  ['HEAD', '/readyz', 200, ''],
  ['HEAD', '/metrics', 200, ''],
  ['POST', '/metrics', 405, 'method not allowed\n'],
  ['GET', '/status/', 404, 'not found\n'],
  ['GET', '/sessions', 404, 'not found\n'],
  ['POST', '/livez/', 404, 'not found\n'],
] as const) {
  test(`${method} ${target} without a token setting gets ${status}`, async (t) => {
    const { url } = await openAdmin(t, { token: undefined });
    const response = await fetch(url + target, { method });
    assert.equal(response.status, status);
    assert.equal(await response.text(), body);
  });
}

test('/metrics has the content type that Prometheus expects', async (t) => {
  const { url } = await openAdmin(t);
  const response = await fetch(`${url}/metrics`);
  assert.equal(response.headers.get('content-type'), 'text/x-metrics');
  assert.equal(response.headers.get('content-length'), '5');
});

test('/readyz is 503 with a reason while the sidecar is not ready', async (t) => {
  const { url } = await openAdmin(t, { readiness: () => DRAINING });
  const response = await fetch(`${url}/readyz`);
  assert.equal(response.status, 503);
  assert.deepEqual(await response.json(), DRAINING);
  assert.equal((await fetch(`${url}/livez`)).status, 200);
});

for (const [path, body] of [
  ['/metrics', 'failed\n'],
  ['/explain?path=/', '{"error":"failed"}\n'],
] as const) {
  test(`an unexpected error of ${path} returns a 500 without its text, and is logged`, async (t) => {
    const fail = (): Promise<never> => Promise.reject(new Error('inside'));
    const metrics = { render: fail, contentType: 'text/plain' };
    const { url, log } = await openAdmin(t, { metrics, explain: fail });
    const response = await fetch(url + path, { headers: AUTHORIZED });
    assert.deepEqual([response.status, await response.text()], [500, body]);
    assert.deepEqual(log.messages('error'), ['admin request failed']);
  });
}

test('stop closes idle connections', async (t) => {
  const { admin } = await openAdmin(t);
  const socket = connect(admin.port, '127.0.0.1');
  await once(socket, 'connect');
  const closed = once(socket, 'close');
  socket.on('error', () => undefined);
  await Promise.all([admin.stop(), admin.stop()]);
  await closed;
});

test('the error for a port in use names the port', async (t) => {
  const { admin } = await openAdmin(t);
  const again = listen(createServer(), { host: '127.0.0.1', port: admin.port });
  await assert.rejects(again, {
    message: `cannot listen on 127.0.0.1:${admin.port}: another process listens on it`,
  });
});

test('a request that is pipelined behind another ends its connection, before its response is made', async (t) => {
  let rendered = 0;
  const first = Promise.withResolvers<string>();
  const render = (): Promise<string> => {
    rendered += 1;
    return first.promise;
  };
  const { admin, url } = await openAdmin(t, { metrics: { render, contentType: 'text/plain' } });
  const socket = connect(admin.port, '127.0.0.1').on('error', () => undefined);
  socket.write('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(40));
  socket.resume();
  await once(socket, 'close');
  assert.equal(rendered, 1);
  first.resolve('up 1\n');
  assert.equal(await (await fetch(`${url}/metrics`)).text(), 'up 1\n');
});

test('requests that follow each other on one connection are all served', async (t) => {
  const { admin } = await openAdmin(t);
  const socket = connect(admin.port, '127.0.0.1').setEncoding('latin1');
  for (let i = 0; i < 20; i += 1) {
    socket.write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n');
    const [text] = (await once(socket, 'data')) as [string];
    assert.match(text, /^HTTP\/1\.1 200 [^]*ok\n$/);
  }
  socket.destroy();
});

async function connectOften(port: number, count: number): Promise<readonly Socket[]> {
  const sockets = Array.from({ length: count }, () =>
    connect(port, '127.0.0.1').on('error', () => undefined),
  );
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  return sockets;
}

test('a connection beyond the limit takes the place of the oldest: silent ones turn no health check away', async (t) => {
  const { admin, url } = await openAdmin(t);
  const [oldest, ...others] = await connectOften(admin.port, 256);
  assert.ok(oldest);
  const closed = once(oldest, 'close');
  assert.equal((await fetch(`${url}/livez`)).status, 200);
  await closed;
  assert.equal(others.filter(({ destroyed }) => destroyed).length, 0);
  for (const socket of others) socket.destroy();
});

test('the connection of an operator with the token is not closed for others', async (t) => {
  const { admin } = await openAdmin(t);
  const socket = connect(admin.port, '127.0.0.1').setEncoding('latin1');
  const ask = async (): Promise<string> => {
    socket.write(
      `GET /drain HTTP/1.1\r\nHost: x\r\nAuthorization: ${AUTHORIZED.authorization}\r\n\r\n`,
    );
    const [text] = (await once(socket, 'data')) as [string];
    return text;
  };
  assert.match(await ask(), /^HTTP\/1\.1 200 /);
  const first = await connectOften(admin.port, 300);
  await until(() => first.filter(({ destroyed }) => destroyed).length === 45);
  assert.match(await ask(), /^HTTP\/1\.1 200 /);
  for (const each of [socket, ...first]) each.destroy();
});
