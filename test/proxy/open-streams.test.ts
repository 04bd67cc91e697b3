/** An open stream or WebSocket keeps its session alive from the start. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { once } from 'node:events';
import type { Environment } from '../../src/config/config.ts';
import { nullMetrics } from '../../src/observability/metrics.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { serve, startTestSidecar } from '../support/sidecar.ts';

const TTL_MS = 600_000;

interface Setting {
  readonly port: number;
  readonly clock: TestClock;
  /** The reason of the latest decision. */
  readonly why: () => string | undefined;
  /** Resolves when the sidecar has noticed the end of the stream. The stop of the sidecar would wait for it. */
  readonly closed: Promise<void>;
  readonly isClosed: () => boolean;
}

/** The app opens a stream at `/stream`, a socket at `/socket`, and mints `abc` at `/mint`, on a stream too. */
async function startSidecar(t: TestContext, env: Environment = {}): Promise<Setting> {
  const app = createServer((req, res) => {
    if (req.url === '/mint') res.setHeader('x-session-id', 'abc');
    if (req.url === '/refused') res.statusCode = 404;
    if (req.url === '/call') res.end();
    else res.write('the begin of a stream');
  });
  const sockets = new WebSocketServer({ server: app });
  t.after(() => sockets.close());
  const clock = createTestClock();
  let why: string | undefined;
  const closed = Promise.withResolvers<undefined>();
  let isClosed = false;
  const metrics = {
    ...nullMetrics,
    openStreams: (_kind: string, change = 1) => {
      if (change > 0) return;
      isClosed = true;
      closed.resolve(undefined);
    },
    requestDecided: (_kind: string, given: string) => void (why = given),
  };
  const settings = { SESSION_STORE_TTL_MS: String(TTL_MS), SESSION_ID_HINTS: 'false', ...env };
  const { ports } = await startTestSidecar(t, await serve(t, app), settings, { clock, metrics });
  return {
    port: ports.public,
    clock,
    why: () => why,
    closed: closed.promise,
    isClosed: () => isClosed,
  };
}

/**
 * Opens a stream and reads its first bytes. The returned function ends it: the client may have
 * half-closed, so the sidecar waits some seconds.
 */
async function openStream(
  { port, clock, isClosed }: Setting,
  path: string,
  id?: string,
): Promise<() => Promise<void>> {
  const abort = new AbortController();
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    headers: id === undefined ? {} : { 'x-session-id': id },
    signal: abort.signal,
  });
  await response.body?.getReader().read();
  return async () => {
    abort.abort();
    while (!isClosed()) await clock.advance(500);
  };
}

async function whyOfCall({ port, why }: Setting, id: string): Promise<string | undefined> {
  await fetch(`http://127.0.0.1:${port}/call`, { headers: { 'x-session-id': id } });
  return why();
}

describe('a stream whose session was not bound before', () => {
  test('keeps an id of the client alive', async (t) => {
    const setting = await startSidecar(t);
    const end = await openStream(setting, '/stream', 'mine');
    await setting.clock.advance(3 * TTL_MS);
    const why = await whyOfCall(setting, 'mine');
    await end();
    await setting.closed;
    assert.equal(why, 'owner');
  });

  test('keeps an id alive that its own head revealed', async (t) => {
    const setting = await startSidecar(t);
    const end = await openStream(setting, '/mint');
    await setting.clock.advance(3 * TTL_MS);
    const why = await whyOfCall(setting, 'abc');
    await end();
    await setting.closed;
    assert.equal(why, 'owner');
  });

  test('keeps it alive if it is a WebSocket', async (t) => {
    const setting = await startSidecar(t);
    const headers = { 'x-session-id': 'mine' };
    const socket = new WebSocket(`ws://127.0.0.1:${setting.port}/socket`, { headers });
    await once(socket, 'open');
    await setting.clock.advance(3 * TTL_MS);
    const why = await whyOfCall(setting, 'mine');
    socket.terminate();
    await setting.closed;
    assert.equal(why, 'owner');
  });

  test('does not keep an id alive that the app rejected', async (t) => {
    const setting = await startSidecar(t);
    const end = await openStream(setting, '/refused', 'mine');
    await setting.clock.advance(3 * TTL_MS);
    const why = await whyOfCall(setting, 'mine');
    await end();
    await setting.closed;
    assert.equal(why, 'unknown-session');
  });
});
