import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Sidecar } from '../../src/lifecycle.ts';
import { openRawClient, type RawClient } from '../support/raw.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

/** TCP port service multiplexer, RFC 1078: nobody runs it. */
const DEAD_PORT = 1;
const UPLOAD_HEAD =
  'POST / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: abc~m2\r\nTransfer-Encoding: chunked\r\n\r\n';
const PIECE = `10000\r\n${'x'.repeat(0x10000)}\r\n`;

/** An upload under way into a session of a Machine that nobody reaches, which was answered with 503. */
async function uploadInVain(t: TestContext): Promise<{ client: RawClient; sidecar: Sidecar }> {
  const appPort = await serveApp(t, (_request, response) => response.end());
  const sidecar = await startTestSidecar(t, appPort, { FLEET: `m2@127.0.0.1:${DEAD_PORT}` });
  const client = await openRawClient(sidecar.ports.public);
  t.after(() => client.socket.destroy());
  client.send(UPLOAD_HEAD + PIECE);
  await client.until((received) => received.startsWith('HTTP/1.1 503'));
  return { client, sidecar };
}

test('a client that leaves its upload after its forward has failed ends nothing else', async (t) => {
  const { client, sidecar } = await uploadInVain(t);
  client.socket.destroy();
  await sidecar.stop();
  // An error that nobody listens to would have been thrown at the whole process by now.
  await nextTurn();
});

test('the connection of an upload whose forward has failed stays in step', async (t) => {
  const { client } = await uploadInVain(t);
  client.send(`${PIECE.repeat(16)}0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n`);
  const received = await client.until((text) => text.includes('HTTP/1.1 200'));
  assert.equal(received.match(/HTTP\/1\.1 /g)?.length, 2);
});
