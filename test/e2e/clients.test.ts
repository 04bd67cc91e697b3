/** The clients of other protocols than MCP, as people install them, against the servers they belong to. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startFleet } from './support/fleet.ts';
import { tell } from './support/telling.ts';

/** A test that hangs ends, and takes its Machines with it. */
const TIMEOUT_MS = 400_000;
const SOCKET_IO_CLIENTS = 50;
/** The presets of these clients, beside those that an app has anyway. */
const PROTOCOLS = [
  ...['mcp', 'mcp-sse', 'rpc', 'cookie:sid', 'socket.io', 'signalr'],
  'path:^/echo/[^/.]+/([^/.]+)/',
].join(',');

test('sessions of other protocols stay with their Machine:', { timeout: TIMEOUT_MS }, async (t) => {
  const fleet = await startFleet(t, { hints: true, env: { SESSION_PROTOCOLS: PROTOCOLS } });
  const { target, ledger } = fleet;

  await t.test('one client of each, while everything is new', async () => {
    for (const story of ['socket.io', 'sockjs', 'signalr'] as const) {
      await tell({ story, target, times: 1 });
    }
  });
  await t.test('50 clients of Socket.IO at once, which poll and then upgrade', () =>
    tell({ story: 'socket.io', target, times: SOCKET_IO_CLIENTS }),
  );
  await t.test('20 clients of Socket.IO that only poll', () =>
    tell({ story: 'socket.io-polling', target, times: 20 }),
  );
  await t.test('30 clients of SockJS, by WebSocket, streaming and polling', () =>
    tell({ story: 'sockjs', target, times: 10 }),
  );
  await t.test('30 clients of SignalR, by WebSocket, event stream and long polling', () =>
    tell({ story: 'signalr', target, times: 10 }),
  );
  await t.test('20 clients of graphql-ws', () => tell({ story: 'graphql-ws', target, times: 20 }));
  await t.test('no call goes astray, or takes more than one replay or one forward', async () => {
    await fleet.close();
    assert.deepEqual(ledger.faults(), []);
  });
});
