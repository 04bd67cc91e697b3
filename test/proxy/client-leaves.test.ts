import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { nullMetrics, type Metrics } from '../../src/observability/metrics.ts';
import { until } from '../fleet/support.ts';
import { openRawClient, type RawClient } from '../support/raw.ts';
import { watchResources } from '../support/resources.ts';
import { serve, startTestSidecar } from '../support/sidecar.ts';

interface Scene {
  readonly app: Server;
  readonly client: RawClient;
  /** Resolves when no timer is left that was not there before the connection. */
  readonly withoutTimers: () => Promise<void>;
  /** The status of the response, when the request is over. */
  readonly answered: Promise<number>;
}

/** An app that does nothing by itself. */
async function setUp(t: TestContext): Promise<Scene> {
  const watch = watchResources(t);
  const app = createServer();
  const over = Promise.withResolvers<number>();
  const metrics: Metrics = { ...nullMetrics, responseSent: over.resolve };
  const parts = { clock: watch.clock, metrics };
  const { ports } = await startTestSidecar(t, await serve(t, app), {}, parts);
  // A connection has the sweep of its listener run.
  const atFirst = watch.timerCount();
  const client = await openRawClient(ports.public);
  const withoutTimers = (): Promise<void> => until(() => watch.timerCount() === atFirst);
  return { app, client, withoutTimers, answered: over.promise };
}

const UPLOAD = 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc';

describe('a client that leaves', () => {
  const leaves: readonly (readonly [how: string, leave: (client: RawClient) => void])[] = [
    ['closes its connection', ({ socket }) => socket.destroy()],
    ['resets its connection', ({ socket }) => socket.resetAndDestroy()],
    ['says that it will send no more', ({ socket }) => socket.end()],
  ];
  for (const [how, leave] of leaves) {
    test(`and ${how} in the middle of its upload is a 499, and no timer is left of it`, async (t) => {
      const { app, client, withoutTimers, answered } = await setUp(t);
      const arrived = once(app, 'request');
      client.send(UPLOAD);
      await arrived;
      leave(client);
      assert.equal(await answered, 499);
      await client.untilClosed();
      assert.equal(client.received(), '');
      await withoutTimers();
    });
  }

  for (const [how, leave] of leaves) {
    test(`and ${how} behind a response that came before the end of its upload has that status`, async (t) => {
      const { app, client, withoutTimers, answered } = await setUp(t);
      app.on('request', (_req, res) => res.end('early'));
      client.send(UPLOAD);
      await client.until((text) => text.endsWith('early'));
      leave(client);
      assert.equal(await answered, 200);
      await client.untilClosed();
      await withoutTimers();
    });
  }

  test('after it was refused in the middle of its upload leaves no timer', async (t) => {
    const { client, withoutTimers, answered } = await setUp(t);
    const refused = UPLOAD.replace('POST / ', 'POST http://b/ ');
    client.send(refused);
    await client.until((text) => text.startsWith('HTTP/1.1 400 '));
    assert.equal(await answered, 400);
    client.socket.destroy();
    await withoutTimers();
  });

  test('in the middle of a body that is no HTTP is told so', async (t) => {
    const { app, client, withoutTimers, answered } = await setUp(t);
    const arrived = once(app, 'request');
    client.send('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n');
    await arrived;
    client.send('nonsense\r\n');
    await client.until((text) => text.startsWith('HTTP/1.1 400 '));
    assert.equal(await answered, 400);
    client.socket.destroy();
    await withoutTimers();
  });

  test('after a response, in the middle of a body that is no HTTP, has the status of that response', async (t) => {
    const { app, client, withoutTimers, answered } = await setUp(t);
    app.on('request', (_req, res) => res.end('early'));
    client.send('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n');
    await client.until((text) => text.endsWith('early'));
    client.send('nonsense\r\n');
    assert.equal(await answered, 200);
    client.socket.destroy();
    await withoutTimers();
  });
});
