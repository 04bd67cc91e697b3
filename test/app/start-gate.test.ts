/** Requests that come before the app listens: `run` binds the public port first. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createServer as createTcpServer, type AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, test, type TestContext } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import type { SidecarParts } from '../../src/app/app.ts';
import type { Sidecar } from '../../src/app/lifecycle.ts';
import { startSidecar } from '../../src/app/app.ts';
import { systemClock } from '../../src/clock.ts';
import { parseConfig } from '../../src/config/config.ts';
import { reservePort } from '../../src/http/reserved-port.ts';
import { nullMetrics } from '../../src/observability/metrics.ts';
import { until } from '../fleet/support.ts';
import { freePort } from '../support/free-port.ts';
import { createMemoryLog, type MemoryLog } from '../support/log.ts';
import { openRawClient } from '../support/raw.ts';
import { readinessAt } from '../support/readiness.ts';

interface Starting {
  readonly url: string;
  readonly appPort: number;
  readonly adminPort: number;
  readonly log: MemoryLog;
  /** The app listens: the start goes on. */
  readonly openGate: () => Promise<Sidecar>;
  readonly failStart: () => Promise<void>;
}

/** A sidecar that waits for its app. */
async function startWaiting(
  t: TestContext,
  env: Readonly<Record<string, string>> = {},
  parts: Partial<SidecarParts> = {},
): Promise<Starting> {
  const [port, appPort, adminPort] = [await freePort(), await freePort(), await freePort()];
  const gate = Promise.withResolvers<undefined>();
  const waiting = Promise.withResolvers<undefined>();
  const log = createMemoryLog();
  const { config } = parseConfig(
    {
      ...{ HOST: '127.0.0.1', PORT: String(port), PEER_PORT: '0', ADMIN_PORT: String(adminPort) },
      ...{ FLY_MACHINE_ID: 'm1', FLEET: 'off', SESSION_STORE_URL: 'memory:' },
      ...{ UPSTREAM_URL: `http://127.0.0.1:${appPort}`, DRAIN_TIMEOUT_MS: '100', ...env },
    },
    () => 0.5,
  );
  assert.ok(config);
  const starting = startSidecar(config, {
    ...{ clock: systemClock, random: () => 0.5, logger: log.logger, metrics: nullMetrics },
    untilAppListens: () => {
      waiting.resolve(undefined);
      return gate.promise;
    },
    ...parts,
  });
  starting.catch(() => undefined);
  t.after(async () => {
    gate.resolve(undefined);
    await starting.then((sidecar) => sidecar.stop()).catch(() => undefined);
  });
  await waiting.promise;
  return {
    url: `http://127.0.0.1:${port}`,
    ...{ appPort, adminPort, log },
    openGate: () => {
      gate.resolve(undefined);
      return starting;
    },
    failStart: async () => {
      gate.reject(new Error('no app'));
      await assert.rejects(starting, /no app/);
    },
  };
}

async function startApp(t: TestContext, port: number): Promise<void> {
  const app = createServer((request, response) => {
    void text(request).then((body) => response.end(`${request.method} ${body.length}`));
  });
  new WebSocketServer({ server: app }).on('connection', (socket) => socket.send('hello'));
  await new Promise<void>((resolve) => app.listen(port, '127.0.0.1', resolve));
  t.after(() => app.close());
}

/** Whether it is still pending after everything that is due has happened. */
async function isPending(promise: Promise<unknown>): Promise<boolean> {
  const later = systemClock.sleep(150).then(() => 'pending');
  return (await Promise.race([promise.catch(() => undefined), later])) === 'pending';
}

const BODY = 'x'.repeat(500_000);

describe('before the app listens', () => {
  test('requests are held, and served when it does', async (t) => {
    const { url, appPort, adminPort, openGate } = await startWaiting(t);
    const got = fetch(url);
    const posted = fetch(url, { method: 'POST', body: BODY });
    const socket = new WebSocket(url.replace('http', 'ws'));
    const greeted = new Promise((resolve, reject) => {
      socket.on('message', (message) => resolve((message as Buffer).toString()));
      socket.on('error', reject);
    });
    t.after(() => socket.terminate());
    assert.ok(await isPending(Promise.race([got, posted, greeted])));
    assert.equal((await readinessAt(adminPort)).status, 503);

    await startApp(t, appPort);
    await openGate();
    assert.equal(await (await got).text(), 'GET 0');
    assert.equal(await (await posted).text(), `POST ${BODY.length}`);
    assert.equal(await greeted, 'hello');
    assert.equal((await readinessAt(adminPort)).status, 200);
  });

  test('requests over the memory budget get 503 with Retry-After, and a client that leaves makes room', async (t) => {
    const limits = { MAX_BUFFERED_BYTES: '1048576', MAX_HEAD_BYTES: '262144' };
    const { url, appPort, openGate } = await startWaiting(t, limits);
    const leaving = new AbortController();
    const left = fetch(url, { signal: leaving.signal });
    const held = fetch(url);
    assert.ok(await isPending(Promise.race([left, held])));
    const refused = await fetch(url);
    assert.equal(refused.status, 503);
    assert.equal(refused.headers.get('retry-after'), '1');

    leaving.abort();
    await assert.rejects(left);
    await until(() => isPending(fetch(url)));
    await startApp(t, appPort);
    await openGate();
    assert.equal((await held).status, 200);
  });

  test('a request whose body is malformed meanwhile gets its 400 once, and makes room', async (t) => {
    const settings = { MAX_BUFFERED_BYTES: '1048576' };
    const { url, appPort, openGate } = await startWaiting(t, settings);
    const head = 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n';
    // More than fit into the memory at once.
    for (let i = 0; i < 16; i += 1) {
      const client = await openRawClient(Number(new URL(url).port));
      client.send(`${head}3\r\nabc\r\n`);
      client.send('zz\r\n');
      const received = await client.untilClosed();
      assert.match(received, /^HTTP\/1\.1 400 /);
      assert.equal(received.match(/HTTP\/1\.1 /g)?.length, 1);
    }
    const served = fetch(url);
    const app = createServer((_, res) => res.end('served'));
    await new Promise<void>((resolve) => app.listen(appPort, '127.0.0.1', resolve));
    t.after(() => void app.close());
    await openGate();
    assert.equal(await (await served).text(), 'served');
  });

  test('no request waits longer than START_TIMEOUT_MS', async (t) => {
    const { url, log } = await startWaiting(t, { START_TIMEOUT_MS: '300' });
    const held = await fetch(url);
    assert.equal(held.status, 502);
    assert.ok(held.headers.has('retry-after'));
    assert.ok(
      log
        .messages('error')
        .includes('the app accepts no connections: requests are not held longer'),
    );
    assert.equal((await fetch(url)).status, 502);
  });

  test('held requests get 503 with Retry-After when the start is aborted', async (t) => {
    const { url, failStart } = await startWaiting(t);
    const held = fetch(url);
    assert.ok(await isPending(held));
    await failStart();
    const { status, headers } = await held;
    assert.deepEqual([status, headers.get('retry-after')], [503, '1']);
  });
});

describe('a reserved port', () => {
  const LIMIT = 2;

  test('hands over what waits there to the listener, which closes it', async (t) => {
    const reservedPort = await reservePort({ host: '127.0.0.1', port: 0 }, LIMIT);
    const url = `http://127.0.0.1:${reservedPort.port}`;
    const early = fetch(url);
    const alsoEarly = fetch(url, { method: 'POST', body: BODY });
    assert.ok(await isPending(Promise.race([early, alsoEarly])));
    const tooMany = await fetch(url);
    assert.equal(tooMany.status, 503);
    assert.equal(tooMany.headers.get('retry-after'), '1');

    const { appPort, openGate } = await startWaiting(t, {}, { reservedPort });
    await startApp(t, appPort);
    const sidecar = await openGate();
    assert.equal(sidecar.ports.public, reservedPort.port);
    assert.equal(await (await early).text(), 'GET 0');
    assert.equal(await (await alsoEarly).text(), `POST ${BODY.length}`);
    assert.equal((await fetch(url)).status, 200);
    await sidecar.stop();
    await assert.rejects(fetch(url));
  });

  test('is free again after its close, and cannot be had twice', async () => {
    const reserved = await reservePort({ host: '127.0.0.1', port: 0 }, LIMIT);
    const { port } = reserved;
    const client = await openRawClient(port);
    await assert.rejects(reservePort({ host: '127.0.0.1', port }, LIMIT), {
      message: `cannot listen on 127.0.0.1:${port}: another process listens on it`,
    });
    await reserved.close();
    client.socket.destroy();
    const next = createTcpServer();
    await new Promise<void>((resolve) => next.listen(port, '127.0.0.1', resolve));
    assert.equal((next.address() as AddressInfo).port, port);
    await new Promise((resolve) => next.close(resolve));
  });
});
