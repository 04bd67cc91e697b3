/** The edge caches the replays of sessions, and most of their requests skip the first hop. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startFleet } from './support/fleet.ts';
import { runScenario } from './support/run-scenario.ts';

/** A test that hangs ends, and stops its Machines. */
const TIMEOUT_MS = 400_000;
const CLIENTS = 20;
/** Requests of each that name its live session. */
const FOLLOW_UPS = 8;
const CACHE = { pathPrefix: '/', ttlSeconds: 60, type: 'header', name: 'mcp-session-id' } as const;

for (const hints of [true, false]) {
  const setting = `hints ${hints ? 'on' : 'off'}`;
  test(`the replay cache preserves affinity, ${setting}:`, { timeout: TIMEOUT_MS }, async (t) => {
    const env = { REPLAY_CACHEABLE: 'true', SESSION_PROTOCOLS: 'mcp' };
    const fleet = await startFleet(t, { hints, env, replayCache: [CACHE] });
    const { target, ledger } = fleet;

    await t.test('20 MCP clients, from initialize to DELETE and the 404 after it', () =>
      runScenario({ scenario: 'mcp', target, times: CLIENTS }),
    );
    await t.test('no call reaches the wrong Machine, or takes more than one replay', async () => {
      await fleet.close();
      assert.deepEqual(ledger.faults(), []);
    });
    await t.test('most calls are routed by the cache, and few are replayed', () => {
      const cached = ledger.records.filter(({ hops }) => hops[0]?.how === 'cached');
      const replayed = ledger.records.filter(({ replays }) => replays > 0);
      assert.ok(cached.length >= (CLIENTS * FOLLOW_UPS) / 2, `${cached.length} cached`);
      assert.ok(replayed.length < cached.length, `${replayed.length} replayed`);
    });
  });
}
