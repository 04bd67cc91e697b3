/**
 * Several requests of a few sessions that arrive at the same time at different Machines of a fleet:
 * the real request paths, claims, questions and announcements, in any order of their steps.
 */
import type { RequestHead } from '../../src/protocols/heads.ts';
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { MachineId, SessionKey } from '../../src/session.ts';
import { rendezvousWinner } from '../../src/fleet/rendezvous.ts';
import { headerValue } from '../../src/protocols/heads.ts';
import { MACHINES } from './model/arbitraries.ts';
import {
  agreedFleet,
  anyFleet,
  fleetOfReplayingApps,
  fleetWithSilent,
  PRIMARY,
  SILENT,
} from './model/fleet-worlds.ts';
import { runsOf } from './model/runs.ts';
import { Fleet, ownersOf, type FleetWorld, type Went } from './model/together.ts';

const RUNS = runsOf(500);

async function holds(
  worlds: fc.Arbitrary<FleetWorld>,
  claim: (fleet: Fleet, went: readonly Went[], world: FleetWorld) => void | Promise<void>,
): Promise<void> {
  const property = fc.asyncProperty(worlds, async (world) => {
    const fleet = await Fleet.open(world);
    try {
      await claim(fleet, await fleet.send(world.requests), world);
    } catch (error) {
      // What has led to it, for the reader of the failure.
      throw new Error(`${String(error)}\n${fleet.steps.taken.join('\n')}`, { cause: error });
    } finally {
      await fleet.close();
    }
  });
  await fc.assert(property, RUNS);
}

/** Nothing is lost if its app is asked in vain. */
function isRepeatable({ method, rawHeaders }: RequestHead): boolean {
  return method === 'GET' && headerValue(rawHeaders, 'content-length') === undefined;
}

/** One that was not sent is none. */
function forwardsOf({ visits }: Went['way']): number {
  return visits.filter(({ from }) => from === 'peer').length;
}

describe('requests that arrive together', () => {
  test('get one answer each, after at most one replay and one forward', async () => {
    await holds(anyFleet, (_, went, { requests }) => {
      assert.equal(went.length, requests.length);
      for (const { way } of went) {
        assert.ok(way.replayed.length <= 1, 'replayed twice');
        assert.ok(forwardsOf(way) <= 1, 'forwarded twice');
        for (const visit of way.visits) assert.equal(visit.answerCount, 1);
      }
    });
  });

  test('are served by a second app only where the first had lost the claim and nothing else', async () => {
    await holds(anyFleet, (_, went) => {
      for (const { way, sent } of went) {
        // The edge may bring it back from a winner that it can't reach, and it is forwarded there then.
        assert.ok(way.served.length <= 3, 'served four times');
        assert.ok(new Set(way.served.map(({ machine }) => machine)).size <= 2, 'by three apps');
        for (const { decision } of way.served.slice(0, -1)) {
          assert.ok(decision.kind === 'local' && decision.mayClaim, 'no claim');
          assert.ok(isRepeatable(sent.head), 'not repeatable');
        }
      }
    });
  });

  test('reach no app whose sidecar knows the session to be elsewhere', async () => {
    await holds(anyFleet, (_, went) => {
      for (const { servedInSpite } of went) assert.deepEqual(servedInSpite, []);
    });
  });

  test('find one owner for each session once all was delivered, and the losers let go once', async () => {
    await holds(anyFleet, async (fleet, _, world) => {
      await fleet.deliverEverything();
      const rows = await fleet.rows();
      const keys = new Set([...rows.values()].flat().map(({ key }) => key));
      for (const key of keys) {
        const owners = ownersOf(rows, key);
        assert.equal(owners.length, 1, `owned by ${owners.join(' and ') || 'nobody'}`);
        for (const [on, of] of rows)
          for (const row of of)
            if (row.key === key) assert.equal(row.machine, owners[0], `a copy on ${on}`);
      }
      if (world.isStoreShared) return;
      for (const { lost, released } of fleet.machines.values())
        assert.deepEqual([...released].sort(), [...lost].sort(), 'let go');
    });
  });

  test('are followed by others that reach that owner from anywhere', async () => {
    await holds(anyFleet, async (fleet, went) => {
      await fleet.deliverEverything();
      const rows = await fleet.rows();
      for (const { sent } of went) {
        const again = { ...sent.head, method: 'GET' };
        for (const at of MACHINES) {
          const [next] = await fleet.send([{ at, head: again }]);
          const served = next?.way.served ?? [];
          const key = served[0]?.key;
          const owner = key && ownersOf(rows, key)[0];
          if (owner === undefined) continue;
          assert.deepEqual(
            served.map(({ machine }) => machine),
            [owner],
          );
        }
      }
    });
  });
});

/** Where all that see the same place a new session. */
function placeOf(
  key: SessionKey,
  { machines }: FleetWorld,
  but?: MachineId,
): MachineId | undefined {
  const answering = machines.filter(({ machine }) => machine !== but);
  const taking = answering.filter(({ isDraining }) => !isDraining);
  const candidates = taking.length > 0 ? taking : answering;
  return rendezvousWinner(
    key,
    candidates.map(({ machine }) => machine),
  );
}

describe('requests of new sessions that arrive together', () => {
  test('are served by the one Machine of their session where all see the same, without a conflict', async () => {
    await holds(agreedFleet, (fleet, went, world) => {
      for (const { way } of went) {
        const [served] = way.served;
        assert.equal(way.served.length, 1);
        assert.ok(served?.key);
        assert.equal(served.machine, placeOf(served.key, world));
      }
      for (const { conflicts } of fleet.machines.values()) assert.deepEqual(conflicts, []);
    });
  });

  test('are served by one of the others where one Machine is silent, and nobody is refused', async () => {
    await holds(fleetWithSilent, (_, went, world) => {
      for (const { way, answer } of went) {
        const [served] = way.served;
        assert.deepEqual([answer.by, answer.status], ['app', 200]);
        assert.equal(way.served.length, 1);
        assert.ok(served?.key);
        assert.equal(served.machine, placeOf(served.key, world, SILENT));
      }
    });
  });
});

describe('requests that apps replay', () => {
  test('are served where they arrive, and claim nothing there', async () => {
    await holds(fleetOfReplayingApps(fc.constant('takes')), (_, went) => {
      for (const { way, answer } of went) {
        assert.ok(way.replayed.length <= 1, 'replayed twice by us');
        assert.ok(way.replayedByApps.length <= 1, 'replayed twice by an app');
        // What is known of the session's owner may be out of date, and a forward ends there.
        if (answer.by === 'app') assert.equal(answer.machine, PRIMARY);
        else assert.deepEqual([answer.status, way.served], [503, []]);
        const last = way.served.at(-1);
        if (way.replayedByApps.length === 0) continue;
        assert.equal(last?.decision.why, 'app-replay');
        assert.ok(last.decision.kind === 'local' && !last.decision.mayClaim);
      }
    });
  });

  test('are in no loop among sidecars of several versions', async () => {
    const views = fc.constantFrom('takes' as const, 'old' as const, 'silent' as const);
    await holds(fleetOfReplayingApps(views), (_, went) => {
      for (const { way } of went) {
        assert.ok(way.replayed.length <= 1, 'replayed twice by us');
        assert.ok(forwardsOf(way) <= 1 + way.replayedByApps.length, 'forwarded twice');
      }
    });
  });
});
