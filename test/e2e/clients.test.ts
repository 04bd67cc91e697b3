/** Real client libraries of protocols other than MCP, with their own servers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startFleet } from './support/fleet.ts';
import { runScenario } from './support/run-scenario.ts';

/** A test that hangs ends, and stops its Machines. */
const TIMEOUT_MS = 400_000;
const SOCKET_IO_CLIENTS = 50;
/** The presets of these clients, in addition to the default ones. */
const PROTOCOLS = [
  ...['mcp', 'mcp-sse', 'rpc', 'cookie:sid', 'socket.io', 'signalr'],
  'path:^/echo/[^/.]+/([^/.]+)/',
].join(',');

test('sessions of other protocols stay with their Machine:', { timeout: TIMEOUT_MS }, async (t) => {
  const fleet = await startFleet(t, { hints: true, env: { SESSION_PROTOCOLS: PROTOCOLS } });
  const { target, ledger } = fleet;

  await t.test('one client of each, right after the start', async () => {
    for (const scenario of ['socket.io', 'sockjs', 'signalr'] as const) {
      await runScenario({ scenario, target, times: 1 });
    }
  });
  await t.test('50 concurrent clients of Socket.IO, which poll and then upgrade', () =>
    runScenario({ scenario: 'socket.io', target, times: SOCKET_IO_CLIENTS }),
  );
  await t.test('20 clients of Socket.IO that only poll', () =>
    runScenario({ scenario: 'socket.io-polling', target, times: 20 }),
  );
  await t.test('30 clients of SockJS, by WebSocket, streaming and polling', () =>
    runScenario({ scenario: 'sockjs', target, times: 10 }),
  );
  await t.test('30 clients of SignalR, by WebSocket, event stream and long polling', () =>
    runScenario({ scenario: 'signalr', target, times: 10 }),
  );
  await t.test('20 clients of graphql-ws', () =>
    runScenario({ scenario: 'graphql-ws', target, times: 20 }),
  );
  await t.test(
    'no call reaches the wrong Machine, or takes more than one replay or one forward',
    async () => {
      await fleet.close();
      assert.deepEqual(ledger.faults(), []);
    },
  );
});
