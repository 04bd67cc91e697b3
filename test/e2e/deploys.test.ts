/**
 * A new version of the app is deployed while the old one is used: the clients' results, counted.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { DeployStrategy } from '../../src/simulator/fleet.ts';
import { journalNow } from './apps/journal.ts';
import { beReady } from './chaos/readiness.ts';
import { startCrowd } from './crowd/crowd.ts';
import type { Visit } from './crowd/guest.ts';
import { faultsOf, hasEnded } from './crowd/judge.ts';
import { cutsOf, tableOf } from './crowd/table.ts';
import { startFleet } from './support/fleet.ts';

/** A test that hangs ends, and stops its Machines. */
const TIMEOUT_MS = 400_000;
const LONG = { timeout: TIMEOUT_MS };
const MACHINES = 5;
const CLIENTS = {
  ...{ mcp: 15, rpc: 15, 'socket.io': 10, websocket: 10 },
  ...{ 'MCP SDK': 3, 'socket.io-client': 3 },
};
const SEED = 1;

describe('a deploy loses the sessions in memory, and nothing else', () => {
  testDeploy('rolling', 'one by one, ids kept');
  testDeploy('bluegreen', 'all at once, new ids');
});

function testDeploy(strategy: DeployStrategy, how: string): void {
  test(`five Machines are replaced ${how}:`, LONG, async (t) => {
    const fleet = await startFleet(t, {
      hints: true,
      machineCount: MACHINES,
      env: { SESSION_PROTOCOLS: 'mcp,rpc,socket.io', REPLAY_TIMEOUT_MS: '2000' },
    });
    const { simulation, ledger } = fleet;
    const crowd = startCrowd({ target: fleet.target, seed: SEED, clients: CLIENTS });
    t.after(() => crowd.breakOff());
    let visits: readonly Visit[] = [];

    await t.test('all clients have a session', LONG, () => crowd.arrived());
    let deployedAt = Infinity;
    await t.test('the new version replaces the old one', LONG, async () => {
      await simulation.deploy(strategy);
      deployedAt = journalNow();
    });
    await t.test('every Machine is ready within ten seconds', () =>
      beReady(simulation.machines.filter(({ state }) => state === 'started')),
    );
    await t.test('every client gets a response again', LONG, async () => {
      visits = await crowd.end();
      for (const line of [...tableOf(visits, ledger), ...cutsOf(visits)]) t.diagnostic(line);
    });
    await t.test('every response after it belongs to a session of the new version', () => {
      const later = visits.filter(({ outcome, at }) => outcome === 'answered' && at > deployedAt);
      assert.ok(later.length > 0);
      assert.deepEqual(
        later.filter((visit) => hasEnded(visit, ledger)),
        [],
      );
    });
    await t.test('no client gets an error other than the end of a lost session', () => {
      assert.deepEqual(faultsOf(visits, ledger), []);
    });
    await t.test(
      'no call reaches the wrong Machine, or takes more than one replay or one forward',
      async () => {
        await simulation.close();
        assert.deepEqual(ledger.faults('some-lost'), []);
      },
    );
  });
}
