import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import type { Sidecar } from '../../src/app/lifecycle.ts';
import { nullMetrics, type Metrics } from '../../src/observability/metrics.ts';
import { until } from '../fleet/support.ts';
import { openRawClient, type RawClient } from '../support/raw.ts';
import { watchResources } from '../support/resources.ts';
import { serve, startTestSidecar } from '../support/sidecar.ts';

interface Setup {
  readonly app: Server;
  readonly client: RawClient;
  /** Resolves when all timers of the connection are gone. */
  readonly withoutTimers: () => Promise<void>;
  /** Resolves with the recorded status when the request ends. */
  readonly recordedStatus: Promise<number>;
  readonly sidecar: Sidecar;
}

/** An app without a request handler. */
async function setUp(t: TestContext): Promise<Setup> {
  const watch = watchResources(t);
  const app = createServer();
  const recorded = Promise.withResolvers<number>();
  const metrics: Metrics = { ...nullMetrics, responseSent: recorded.resolve };
  const parts = { clock: watch.clock, metrics };
  const sidecar = await startTestSidecar(t, await serve(t, app), {}, parts);
  // The first connection starts the sweep timer of its listener.
  const atFirst = watch.timerCount();
  const client = await openRawClient(sidecar.ports.public);
  const withoutTimers = (): Promise<void> => until(() => watch.timerCount() === atFirst);
  return { app, client, withoutTimers, recordedStatus: recorded.promise, sidecar };
}

const UPLOAD = 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc';

describe('a client that disconnects', () => {
  const disconnects: readonly (readonly [how: string, disconnect: (client: RawClient) => void])[] =
    [
      ['closes its connection', ({ socket }) => socket.destroy()],
      ['resets its connection', ({ socket }) => socket.resetAndDestroy()],
      ['sends FIN', ({ socket }) => socket.end()],
    ];
  for (const [how, disconnect] of disconnects) {
    test(`and ${how} in the middle of its upload is recorded as 499, and leaves no timer`, async (t) => {
      const { app, client, withoutTimers, recordedStatus } = await setUp(t);
      const arrived = once(app, 'request');
      client.send(UPLOAD);
      await arrived;
      disconnect(client);
      assert.equal(await recordedStatus, 499);
      await client.untilClosed();
      assert.equal(client.received(), '');
      await withoutTimers();
    });
  }

  for (const [how, disconnect] of disconnects) {
    test(`and ${how} after a response but before the end of its upload is recorded with the status of the response`, async (t) => {
      const { app, client, withoutTimers, recordedStatus } = await setUp(t);
      app.on('request', (_req, res) => res.end('early'));
      client.send(UPLOAD);
      await client.until((text) => text.endsWith('early'));
      disconnect(client);
      assert.equal(await recordedStatus, 200);
      await client.untilClosed();
      await withoutTimers();
    });
  }

  for (const [how, disconnect] of disconnects.slice(0, 2)) {
    test(`and ${how} in the middle of a stream is recorded with the status of the stream`, async (t) => {
      const { app, client, withoutTimers, recordedStatus } = await setUp(t);
      app.on('request', (_req, res) => res.write('first'));
      client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
      await client.until((text) => text.includes('first'));
      disconnect(client);
      assert.equal(await recordedStatus, 200);
      await withoutTimers();
    });
  }

  test('after a 400 in the middle of its upload leaves no timer', async (t) => {
    const { client, withoutTimers, recordedStatus } = await setUp(t);
    const invalid = UPLOAD.replace('POST / ', 'POST http://b/ ');
    client.send(invalid);
    await client.until((text) => text.startsWith('HTTP/1.1 400 '));
    assert.equal(await recordedStatus, 400);
    client.socket.destroy();
    await withoutTimers();
  });

  test('after the 400 for a malformed body leaves no timer', async (t) => {
    const { app, client, withoutTimers, recordedStatus } = await setUp(t);
    const arrived = once(app, 'request');
    client.send('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n');
    await arrived;
    client.send('nonsense\r\n');
    await client.until((text) => text.startsWith('HTTP/1.1 400 '));
    assert.equal(await recordedStatus, 400);
    client.socket.destroy();
    await withoutTimers();
  });

  test('after a response and then a malformed body is recorded with the status of the response', async (t) => {
    const { app, client, withoutTimers, recordedStatus } = await setUp(t);
    app.on('request', (_req, res) => res.end('early'));
    client.send('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n');
    await client.until((text) => text.endsWith('early'));
    client.send('nonsense\r\n');
    assert.equal(await recordedStatus, 200);
    client.socket.destroy();
    await withoutTimers();
  });
});

describe('a request that the end of a drain cuts', () => {
  test('is recorded as 503 before a response, not as a client that disconnected', async (t) => {
    const { app, client, recordedStatus, sidecar } = await setUp(t);
    const arrived = once(app, 'request');
    client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await arrived;
    await sidecar.stop();
    assert.equal(await recordedStatus, 503);
    await client.untilClosed();
    assert.equal(client.received(), '');
  });

  test('is recorded with the status of its response', async (t) => {
    const { app, client, recordedStatus, sidecar } = await setUp(t);
    app.on('request', (_req, res) => res.write('first'));
    client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await client.until((text) => text.includes('first'));
    await sidecar.stop();
    assert.equal(await recordedStatus, 200);
    await client.untilClosed();
  });
});
