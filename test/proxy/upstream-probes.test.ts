/** Which responses of an app pass a health check, over real connections. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import {
  createCheckProbe,
  createConnectProbe,
  PROBE_TIMEOUT_MS,
} from '../../src/proxy/upstream-health.ts';
import { createTestClock } from '../support/clock.ts';
import { freePort } from '../support/free-port.ts';
import { serveRawApp } from '../support/raw-app.ts';
import { serveApp } from '../support/sidecar.ts';

const originAt = (port: number): URL => new URL(`http://127.0.0.1:${port}`);
const NEVER = new AbortController().signal;

function respondingWith(t: TestContext, response: string): Promise<number> {
  return serveRawApp(t, (socket) => socket.end(response));
}

const NOT_FOLLOWED =
  '; redirects are not followed: set UPSTREAM_CHECK_PATH to a path that returns 2xx, or UPSTREAM_CHECK_HOST to a host that the app serves';

describe('a redirected check fails, and the reason names the difference and the fix', () => {
  const rows: readonly (readonly [location: string, difference: string])[] = [
    ['', ''],
    ['location: /login?token=secret\r\n', ' to another path'],
    ['location: https://my-app.fly.dev/up?token=secret\r\n', ' to the same URL'],
    ['location: https://www.my-app.com/up\r\n', ' to another host'],
    ['location: http://my-app.fly.dev/up\r\n', ' to another scheme'],
    ['location: http://me:secret@my-app.com/secret\r\n', ' to another scheme and host and path'],
    ['location: http://:secret\r\n', ''],
  ];
  for (const [location, difference] of rows) {
    test(`by ${JSON.stringify(location)}`, async (t) => {
      const response = `HTTP/1.1 302 Found\r\n${location}content-length: 0\r\n\r\n`;
      const options = {
        origin: originAt(await respondingWith(t, response)),
        clock: createTestClock(),
      };
      const outcome = await createCheckProbe(options, '/up', 'my-app.fly.dev')(NEVER);
      const reason = `the check returned 302${difference}${NOT_FOLLOWED}`;
      assert.deepEqual(outcome, { kind: 'failed', reason });
    });
  }
});

describe('a check', () => {
  const rows: readonly (readonly [response: string, reason: string | undefined])[] = [
    ['HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok', undefined],
    ['HTTP/1.1 204 No Content\r\n\r\n', undefined],
    ['HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nthe begin', undefined],
    ['HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n', 'the check returned 404'],
    ['HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n', 'the check returned 503'],
    [
      'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n',
      'the check returned 101',
    ],
    ['', 'connection reset'],
    ['SSH-2.0-secret\r\n', 'the response is not valid HTTP'],
  ];
  for (const [response, reason] of rows) {
    test(`that gets ${JSON.stringify(response)} ${reason ? 'fails' : 'passes'}`, async (t) => {
      const clock = createTestClock();
      const origin = originAt(await respondingWith(t, response));
      const outcome = await createCheckProbe({ origin, clock }, '/health')(NEVER);
      assert.deepEqual(outcome, reason ? { kind: 'failed', reason } : { kind: 'passed' });
      assert.equal(clock.pendingCount(), 0);
    });
  }

  test('requests its path once, on a connection of its own', async (t) => {
    const requests: unknown[] = [];
    const port = await serveApp(t, ({ method, url, headers }, res) => {
      requests.push([method, url, headers.host, headers.connection]);
      res.end();
    });
    const probe = createCheckProbe({ origin: originAt(port), clock: createTestClock() }, '/a?b=1');
    await probe(NEVER);
    assert.deepEqual(requests, [['GET', '/a?b=1', `127.0.0.1:${port}`, 'close']]);
  });
});

test('a connection probe passes if the port is open', async (t) => {
  const clock = createTestClock();
  const origin = originAt(await respondingWith(t, ''));
  assert.deepEqual(await createConnectProbe({ origin, clock })(NEVER), { kind: 'passed' });
  assert.equal(clock.pendingCount(), 0);
});

for (const [name, create] of [
  ['connection', createConnectProbe],
  ['check', (options: Parameters<typeof createConnectProbe>[0]) => createCheckProbe(options, '/')],
] as const) {
  test(`a ${name} fails if the port is closed`, async () => {
    const clock = createTestClock();
    const outcome = await create({ origin: originAt(await freePort()), clock })(NEVER);
    assert.deepEqual(outcome, { kind: 'failed', reason: 'connection refused' });
    assert.equal(clock.pendingCount(), 0);
  });
}

async function serveWithoutResponse(
  t: TestContext,
): Promise<{ port: number; accepted: Promise<Socket> }> {
  const server = createServer();
  const accepted = once(server, 'connection').then(([socket]) => socket as Socket);
  const port = await new Promise<number>((resolve) =>
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port)),
  );
  t.after(() => server.close());
  return { port, accepted };
}

test('a check without a response fails in time, and its connection closes', async (t) => {
  const { port, accepted } = await serveWithoutResponse(t);
  const clock = createTestClock();
  const checked = createCheckProbe({ origin: originAt(port), clock }, '/')(NEVER);
  const closed = once(
    (await accepted).resume().on('error', () => undefined),
    'close',
  );
  await clock.advance(PROBE_TIMEOUT_MS);
  assert.deepEqual(await checked, { kind: 'failed', reason: 'no response within 2000 ms' });
  await closed;
});

test('an aborted check ends at once', async (t) => {
  const { port, accepted } = await serveWithoutResponse(t);
  const clock = createTestClock();
  const abort = new AbortController();
  const checked = createCheckProbe({ origin: originAt(port), clock }, '/')(abort.signal);
  const closed = once(
    (await accepted).resume().on('error', () => undefined),
    'close',
  );
  abort.abort();
  assert.equal((await checked).kind, 'failed');
  assert.equal(clock.pendingCount(), 0);
  await closed;
});
