/**
 * Several concurrent requests of a few sessions at different Machines of a fleet: the real request
 * paths, claims, queries and announcements, in any order of their steps.
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
  fleetWithUnresponsive,
  PRIMARY,
  UNRESPONSIVE,
} from './model/fleet-worlds.ts';
import { runsOf } from './model/runs.ts';
import { Fleet, ownersOf, type FleetWorld, type FleetOutcome } from './model/fleet.ts';

const RUNS = runsOf(500);

async function assertProperty(
  worlds: fc.Arbitrary<FleetWorld>,
  claim: (
    fleet: Fleet,
    outcomes: readonly FleetOutcome[],
    world: FleetWorld,
  ) => void | Promise<void>,
): Promise<void> {
  const property = fc.asyncProperty(worlds, async (world) => {
    const fleet = await Fleet.open(world);
    try {
      await claim(fleet, await fleet.send(world.requests), world);
    } catch (error) {
      // Add the steps that led to the failure.
      throw new Error(`${String(error)}\n${fleet.steps.log.join('\n')}`, { cause: error });
    } finally {
      await fleet.close();
    }
  });
  await fc.assert(property, RUNS);
}

/** It can be sent again after an app has received it. */
function isRepeatable({ method, rawHeaders }: RequestHead): boolean {
  return method === 'GET' && headerValue(rawHeaders, 'content-length') === undefined;
}

/** The number of forwards that arrived. */
function forwardsOf({ visits }: FleetOutcome['flow']): number {
  return visits.filter(({ from }) => from === 'peer').length;
}

describe('concurrent requests', () => {
  test('get one response each, after at most one replay and one forward', async () => {
    await assertProperty(anyFleet, (_, outcomes, { requests }) => {
      assert.equal(outcomes.length, requests.length);
      for (const { flow } of outcomes) {
        assert.ok(flow.replayed.length <= 1, 'replayed twice');
        assert.ok(forwardsOf(flow) <= 1, 'forwarded twice');
        for (const visit of flow.visits) assert.equal(visit.responseCount, 1);
      }
    });
  });

  test('are served by a second app only if the first lost the claim and the request can be sent again', async () => {
    await assertProperty(anyFleet, (_, outcomes) => {
      for (const { flow, sent } of outcomes) {
        // If the edge can't reach the winner, it returns the request, and the sidecar forwards it.
        assert.ok(flow.served.length <= 3, 'served four times');
        assert.ok(new Set(flow.served.map(({ machine }) => machine)).size <= 2, 'by three apps');
        for (const { decision } of flow.served.slice(0, -1)) {
          assert.ok(decision.kind === 'local' && decision.mayClaim, 'no claim');
          assert.ok(isRepeatable(sent.head), 'not repeatable');
        }
      }
    });
  });

  test('reach no app whose sidecar knows another owner of the session', async () => {
    await assertProperty(anyFleet, (_, outcomes) => {
      for (const { servedDespiteOwner } of outcomes) assert.deepEqual(servedDespiteOwner, []);
    });
  });

  test('leave one owner for each session after all messages are delivered, and each loser releases once', async () => {
    await assertProperty(anyFleet, async (fleet, _, world) => {
      await fleet.deliverEverything();
      const rows = await fleet.rows();
      const keys = new Set([...rows.values()].flat().map(({ key }) => key));
      for (const key of keys) {
        const owners = ownersOf(rows, key);
        assert.equal(owners.length, 1, `owned by ${owners.join(' and ') || 'no Machine'}`);
        for (const [on, of] of rows)
          for (const row of of)
            if (row.key === key) assert.equal(row.machine, owners[0], `a copy on ${on}`);
      }
      if (world.isStoreShared) return;
      for (const { lost, released } of fleet.machines.values())
        assert.deepEqual([...released].sort(), [...lost].sort(), 'released');
    });
  });

  test('are followed by requests that reach that owner from every Machine', async () => {
    await assertProperty(anyFleet, async (fleet, outcomes) => {
      await fleet.deliverEverything();
      const rows = await fleet.rows();
      for (const { sent } of outcomes) {
        const again = { ...sent.head, method: 'GET' };
        for (const at of MACHINES) {
          const [next] = await fleet.send([{ at, head: again }]);
          const served = next?.flow.served ?? [];
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

/** The Machine on which a new session is placed if all Machines agree. */
function placementOf(
  key: SessionKey,
  { machines }: FleetWorld,
  except?: MachineId,
): MachineId | undefined {
  const responsive = machines.filter(({ machine }) => machine !== except);
  const accepting = responsive.filter(({ isDraining }) => !isDraining);
  const candidates = accepting.length > 0 ? accepting : responsive;
  return rendezvousWinner(
    key,
    candidates.map(({ machine }) => machine),
  );
}

describe('concurrent requests of new sessions', () => {
  test('are served by one Machine for each session if all Machines agree, without a conflict', async () => {
    await assertProperty(agreedFleet, (fleet, outcomes, world) => {
      for (const { flow } of outcomes) {
        const [served] = flow.served;
        assert.equal(flow.served.length, 1);
        assert.ok(served?.key);
        assert.equal(served.machine, placementOf(served.key, world));
      }
      for (const { conflicts } of fleet.machines.values()) assert.deepEqual(conflicts, []);
    });
  });

  test('are served by another Machine if one is unresponsive, and none is rejected', async () => {
    await assertProperty(fleetWithUnresponsive, (_, outcomes, world) => {
      for (const { flow, response } of outcomes) {
        const [served] = flow.served;
        assert.deepEqual([response.by, response.status], ['app', 200]);
        assert.equal(flow.served.length, 1);
        assert.ok(served?.key);
        assert.equal(served.machine, placementOf(served.key, world, UNRESPONSIVE));
      }
    });
  });
});

describe('requests that apps replay', () => {
  test('are served by the target of the replay, and claim nothing there', async () => {
    await assertProperty(fleetOfReplayingApps(fc.constant('accepting')), (_, outcomes) => {
      for (const { flow, response } of outcomes) {
        assert.ok(flow.replayed.length <= 1, 'replayed twice by us');
        assert.ok(flow.replayedByApps.length <= 1, 'replayed twice by an app');
        // The known owner may be outdated, and then the forward fails.
        if (response.by === 'app') assert.equal(response.machine, PRIMARY);
        else assert.deepEqual([response.status, flow.served], [503, []]);
        const last = flow.served.at(-1);
        if (flow.replayedByApps.length === 0) continue;
        assert.equal(last?.decision.why, 'app-replay');
        assert.ok(last.decision.kind === 'local' && !last.decision.mayClaim);
      }
    });
  });

  test('do not loop between sidecars of several versions', async () => {
    const views = fc.constantFrom(
      'accepting' as const,
      'old-version' as const,
      'unresponsive' as const,
    );
    await assertProperty(fleetOfReplayingApps(views), (_, outcomes) => {
      for (const { flow } of outcomes) {
        assert.ok(flow.replayed.length <= 1, 'replayed twice by us');
        assert.ok(forwardsOf(flow) <= 1 + flow.replayedByApps.length, 'forwarded twice');
      }
    });
  });
});
