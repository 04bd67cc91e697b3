/** A port that is bound before its listener is there. */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { BACKLOG } from '../../src/http/listener.ts';
import { reservePort } from '../../src/http/reserved-port.ts';

test('the listener that takes over the port keeps the length of its queue in the kernel', async (t) => {
  const reserved = await reservePort({ host: '127.0.0.1', port: 0 }, 1);
  const server = createServer();
  t.after(() => server.close());
  const listening = t.mock.method(server, 'listen');
  await reserved.handOver(server);
  // Node passes 511 on to the kernel where it gets no number, and Linux resets what a burst brings beyond it.
  assert.equal(listening.mock.calls[0]?.arguments[1], BACKLOG);
});
