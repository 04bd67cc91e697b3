import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { serve, startTestSidecar } from './support/sidecar.ts';

test('a sidecar stops though WebSockets are open', { timeout: 10_000 }, async (t) => {
  const app = createServer();
  const sockets = new WebSocketServer({ server: app });
  t.after(() => sockets.clients.forEach((socket) => socket.terminate()));
  const sidecar = await startTestSidecar(t, await serve(t, app));
  const client = new WebSocket(`ws://127.0.0.1:${sidecar.ports.public}/`);
  t.after(() => client.terminate());
  await once(client, 'open');

  const closed = once(client, 'close');
  await sidecar.stop();
  assert.equal((await closed)[0], 1006);
});
