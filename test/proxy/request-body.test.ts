import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { openRawClient, type RawClient } from '../support/raw.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

/** TCP port service multiplexer, RFC 1078: nobody runs it. */
const DEAD_PORT = 1;
/** How long a sidecar waits for the rest of an upload that it has answered. */
const LINGER_MS = 5_000;
const UPLOAD_HEAD =
  'POST / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: abc~m2\r\nTransfer-Encoding: chunked\r\n\r\n';
const PIECE = `10000\r\n${'x'.repeat(0x10000)}\r\n`;

/** An upload under way into a session of a Machine that nobody reaches, which was answered with 503. */
async function uploadInVain(t: TestContext): Promise<{ client: RawClient; clock: TestClock }> {
  const clock = createTestClock();
  const appPort = await serveApp(t, (_request, response) => response.end());
  const fleet = { FLEET: `m2@127.0.0.1:${DEAD_PORT}` };
  const { ports } = await startTestSidecar(t, appPort, fleet, { clock });
  const client = await openRawClient(ports.public);
  t.after(() => client.socket.destroy());
  client.send(UPLOAD_HEAD + PIECE);
  await client.until((received) => received.startsWith('HTTP/1.1 503'));
  return { client, clock };
}

test('a client that leaves its upload after its forward has failed ends nothing else', async (t) => {
  const { client, clock } = await uploadInVain(t);
  client.socket.destroy();
  // Until the sidecar closes what is left of it. An error that nobody listens to ends the process.
  await clock.advance(LINGER_MS);
});

test('the connection of an upload whose forward has failed stays in step', async (t) => {
  const { client } = await uploadInVain(t);
  client.send(`${PIECE.repeat(16)}0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n`);
  const received = await client.until((text) => text.includes('HTTP/1.1 200'));
  assert.equal(received.match(/HTTP\/1\.1 /g)?.length, 2);
});
