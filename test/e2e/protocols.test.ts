import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startFleet } from './support/fleet.ts';
import { runScenario } from './support/run-scenario.ts';

/** A test that hangs ends, and stops its Machines. */
const TIMEOUT_MS = 400_000;
const MCP_CLIENTS = 50;
/** Requests of each that name its live session. */
const MCP_FOLLOW_UPS = 8;
const UPLOADERS = 4;

for (const hints of [true, false]) {
  const setting = `hints ${hints ? 'on' : 'off'}`;
  test(`sessions stay with their Machine, ${setting}:`, { timeout: TIMEOUT_MS }, async (t) => {
    const fleet = await startFleet(t, { hints });
    const { target, ledger } = fleet;

    await t.test('50 concurrent MCP clients, from initialize to DELETE and the 404 after it', () =>
      runScenario({ scenario: 'mcp', target, times: MCP_CLIENTS }),
    );
    await t.test('20 MCP clients over HTTP+SSE', () =>
      runScenario({ scenario: 'mcp-sse', target, times: 20 }),
    );
    await t.test('20 clients of a WebSocket RPC', () =>
      runScenario({ scenario: 'rpc', target, times: 20 }),
    );
    await t.test('20 browsers with a cookie', () =>
      runScenario({ scenario: 'cookie', target, times: 20 }),
    );
    await t.test('uploads of 5 MB, with a length and in chunks', () =>
      runScenario({ scenario: 'upload', target, times: UPLOADERS }),
    );
    await t.test(
      'no call reaches the wrong Machine, or takes more than one replay or one forward',
      async () => {
        await fleet.close();
        assert.deepEqual(ledger.faults(), []);
        assert.equal(ledger.count({ decision: 'forward' }), 2 * UPLOADERS);
        assert.ok(
          ledger.count({ decision: 'replay' }) >= MCP_CLIENTS * MCP_FOLLOW_UPS,
          'the edge does not support affinity',
        );
      },
    );
  });
}
