import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startFleet } from './support/fleet.ts';
import { tell } from './support/telling.ts';

/** A test that hangs ends, and takes its Machines with it. */
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

    await t.test('50 MCP clients at once, from initialize to DELETE and the 404 after it', () =>
      tell({ story: 'mcp', target, times: MCP_CLIENTS }),
    );
    await t.test('20 MCP clients over HTTP+SSE', () =>
      tell({ story: 'mcp-sse', target, times: 20 }),
    );
    await t.test('20 clients of a WebSocket RPC', () => tell({ story: 'rpc', target, times: 20 }));
    await t.test('20 browsers with a cookie', () => tell({ story: 'cookie', target, times: 20 }));
    await t.test('uploads of 5 MB, with a length and in chunks', () =>
      tell({ story: 'upload', target, times: UPLOADERS }),
    );
    await t.test('no call goes astray, or takes more than one replay or one forward', async () => {
      await fleet.close();
      assert.deepEqual(ledger.faults(), []);
      assert.equal(ledger.count({ decision: 'forward' }), 2 * UPLOADERS);
      assert.ok(
        ledger.count({ decision: 'replay' }) >= MCP_CLIENTS * MCP_FOLLOW_UPS,
        'the edge helps nobody',
      );
    });
  });
}
