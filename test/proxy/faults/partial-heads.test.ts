/**
 * Partial heads did not count against the buffer budget: 32 KB for each connection, for 20 s, from any
 * client. They count now, and are rejected first when the budget is exhausted.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startTestSidecar } from '../../support/sidecar.ts';
import { openClient } from '../../support/raw.ts';
import { BOUNDED, get, serveRecordingApp, untilEnded, untilResponses } from './support.ts';

const LIMIT_BYTES = 1_048_576;
/** An incomplete head. */
const PARTIAL = `GET /partial HTTP/1.1\r\nHost: a\r\nX-A: ${'a'.repeat(10_000)}`;
const COUNT = Math.ceil((1.5 * LIMIT_BYTES) / PARTIAL.length);

test(
  'partial heads beyond MAX_BUFFERED_BYTES get 503 until the rest is within the limit',
  BOUNDED,
  async (t) => {
    const app = await serveRecordingApp(t);
    const env = { MAX_BUFFERED_BYTES: String(LIMIT_BYTES) };
    const { ports } = await startTestSidecar(t, app.port, env);
    const clients = await Promise.all(
      Array.from({ length: COUNT }, () => openClient(t, ports.public)),
    );
    for (const client of clients) client.send(PARTIAL);
    const first = await Promise.race(clients.map((client) => untilEnded(client)));
    assert.deepEqual(
      first.responses.map(({ status }) => status),
      [503],
    );
    // Heads within the limit and other clients are still served.
    const other = await openClient(t, ports.public);
    other.send(get('/other'));
    const [response] = await untilResponses(other, 1);
    assert.equal(response?.status, 200);
    for (const client of clients) client.send('\r\n\r\n');
    const all = await Promise.all(clients.map((client) => untilResponses(client, 1)));
    const statuses = all.map(([one]) => one?.status);
    assert.deepEqual([...new Set(statuses)].sort(), [200, 503]);
  },
);
