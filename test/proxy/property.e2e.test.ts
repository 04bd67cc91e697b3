/**
 * Properties of the real request path for any state of stores, hints, peers and directories, and any
 * client request. The edge, the peers and the apps are models (`model/`).
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Binding, MachineId, SessionKey } from '../../src/session.ts';
import { parseReplaySource } from '../../src/fly.ts';
import { REPLAY_MARK } from '../../src/routing/replay-state.ts';
import { headerValue } from '../../src/protocols/heads.ts';
import { readEdgeFields } from '../../src/routing/facts.ts';
import { keyOf } from '../support/ids.ts';
import { anyWorld, consistentWorld, healthyWorld } from './model/arbitraries.ts';
import { REPLAY_MAX_BODY_BYTES, type ModelMachine } from './model/machine.ts';
import { runsOf } from './model/runs.ts';
import { RequestFlow } from './model/request-flow.ts';
import {
  openMachines,
  reachIn,
  rowsOf,
  sendRequest,
  type RequestOutcome,
  type WorldScript,
} from './model/world.ts';

const RUNS = runsOf(2_000);

async function assertProperty(
  worlds: fc.Arbitrary<WorldScript>,
  claim: (outcome: RequestOutcome, world: WorldScript) => void,
): Promise<void> {
  const property = fc.asyncProperty(worlds, async (world) =>
    claim(await sendRequest(world), world),
  );
  await fc.assert(property, RUNS);
}

interface Change {
  readonly on: ModelMachine;
  readonly key: SessionKey;
  readonly was: Binding | undefined;
  readonly is: Binding | undefined;
}

/** Rows whose owner changed, and rows that were added or removed. */
function changesOfOwner({ machines, before, after }: RequestOutcome): Change[] {
  return [...machines].flatMap(([machine, on]) => {
    const [was, is] = [before.get(machine), after.get(machine)];
    const keys = new Set([...(was?.keys() ?? []), ...(is?.keys() ?? [])]);
    return [...keys]
      .map((key) => ({ on, key, was: was?.get(key), is: is?.get(key) }))
      .filter((change) => change.was?.machine !== change.is?.machine);
  });
}

/** Whether the Machine passed the request on, and so does not own the session. */
function hasPassedOn(
  { flow, before }: RequestOutcome,
  machine: MachineId,
  key: SessionKey,
): boolean {
  const isOwner = before.get(machine)?.get(key)?.machine === machine;
  return !isOwner && flow.visits.some((of) => of.machine === machine);
}

/** Whether the app of that Machine accepted the session. */
function hasAccepted(
  { flow, machines }: RequestOutcome,
  machine: MachineId,
  key: SessionKey,
): boolean {
  const app = machines.get(machine)?.script.app;
  if (!app || app.replays) return false;
  const isAccepted = app.status === 101 || (app.status >= 200 && app.status < 300);
  return flow.served.some((of) => {
    if (of.machine !== machine) return false;
    const hasMinted = app.mints !== undefined && keyOf(app.mints) === key;
    const mayAccept = of.method !== 'OPTIONS' && of.method !== 'HEAD';
    return hasMinted || (isAccepted && mayAccept && of.key === key);
  });
}

describe('in any world, any request', () => {
  test('gets one response, after at most one replay and one forward', async () => {
    await assertProperty(anyWorld, ({ flow, response }) => {
      assert.ok(response.status >= 100);
      assert.ok(flow.replayed.length <= 1, 'replayed twice');
      assert.ok(flow.forwardCount <= 1, 'forwarded twice');
      assert.ok(flow.visits.length <= 3, 'a loop');
      for (const visit of flow.visits) assert.equal(visit.responseCount, 1);
    });
  });

  test('is not replayed if it was replayed before, was returned by the edge, or is too large', async () => {
    await assertProperty(anyWorld, ({ flow }) => {
      for (const { rawHeaders } of flow.replayed) {
        // Headers that a client forges come before the headers that the edge adds.
        const { replaySource = '', replayFailed } = readEdgeFields(rawHeaders);
        assert.notEqual(parseReplaySource(replaySource).state, REPLAY_MARK);
        assert.equal(replayFailed, undefined);
        assert.equal(headerValue(rawHeaders, 'transfer-encoding'), undefined);
        const length = Number(headerValue(rawHeaders, 'content-length') ?? 0);
        assert.ok(length <= REPLAY_MAX_BODY_BYTES);
      }
    });
  });

  test('is handled as explain reports it, and explain changes nothing', async () => {
    const property = fc.asyncProperty(anyWorld, async (world) => {
      const machines = await openMachines(world);
      const before = await rowsOf(machines);
      const machine = machines.get(world.first) ?? assert.fail('no such Machine');
      const { steps } = await machine.explain({ ...world.request, from: 'edge' });
      for (const each of machines.values()) await each.idle();
      assert.deepEqual([await rowsOf(machines), machine.decisions], [before, []]);
      await new RequestFlow(reachIn(machines)).visit(machine, world.request, 'edge');
      const [decision] = machine.decisions;
      const last = steps.at(-1);
      assert.deepEqual(last?.step === 'decision' && last.decision, decision);
    });
    await fc.assert(property, RUNS);
  });

  test('binds a session to a Machine only if its app accepts it or that Machine reports it', async () => {
    await assertProperty(anyWorld, (outcome) => {
      for (const { on, key, is } of changesOfOwner(outcome)) {
        if (!is) continue;
        const self = on.script.machine;
        if (is.machine === self)
          assert.ok(hasAccepted(outcome, self, key), 'bound without acceptance');
        else assert.ok(isReportedByOwner(outcome, on, is), 'copied without an owner');
      }
    });
  });

  test('reaches no app whose sidecar knows another owner of the session', async () => {
    await assertProperty(anyWorld, (outcome) => {
      const { machines, flow, before } = outcome;
      for (const { machine, key, decision } of flow.served) {
        // An app replayed it here. A client may forge that for its own request.
        if (decision.why === 'app-replay') continue;
        const on = machines.get(machine);
        if (key === undefined) continue;
        const owner = before.get(machine)?.get(key)?.machine;
        if (!on || on.script.isStoreBusy || owner === undefined || owner === machine) continue;
        const isNotOwner = hasPassedOn(outcome, owner, key);
        assert.ok(isNotOwner || on.considersGone(owner), 'served despite another owner');
      }
    });
  });

  test('claims an id that clients mint only on its placement Machine, and only if no peer reports an owner', async () => {
    await assertProperty(anyWorld, (outcome) => {
      for (const { on, key, is } of changesOfOwner(outcome)) {
        const { machine: self, app } = on.script;
        const isMinted = app.mints !== undefined && keyOf(app.mints) === key;
        if (is?.machine !== self || isMinted) continue;
        const served = outcome.flow.served.find((of) => of.machine === self && of.key === key);
        if (served?.mintedBy === 'app') continue;
        assert.ok(served?.decision.kind === 'local' && served.decision.mayClaim, 'not placed here');
        assert.equal(on.lookups.at(-1)?.kind === 'owner', false, 'a peer owns it');
      }
    });
  });
});

/** Whether that Machine reported the session as its own, in a lookup, an announcement or its row. */
function isReportedByOwner(
  { machines, before }: RequestOutcome,
  { script: { scriptedLookup } }: ModelMachine,
  { key, machine, origin }: Binding,
): boolean {
  const isFromLookup = scriptedLookup?.kind === 'owner' && scriptedLookup.machine === machine;
  const isAnnounced = machines.get(machine)?.announced.has(key) ?? false;
  const isOwnerRow = before.get(machine)?.get(key)?.machine === machine;
  return origin === 'copied' && (isFromLookup || isAnnounced || isOwnerRow);
}

describe('where every session has one owner', () => {
  test('no request, however forged, moves or ends a session unless its own app does', async () => {
    await assertProperty(consistentWorld, (outcome) => {
      for (const { on, was } of changesOfOwner(outcome)) {
        const self = on.script.machine;
        if (was?.machine !== self) continue;
        const isEnded = outcome.flow.served.some(
          ({ machine, method, key }) => machine === self && method === 'DELETE' && key === was.key,
        );
        assert.ok(isEnded, 'moved or deleted');
      }
    });
  });

  test('no other Machine owns a session whose owner responds', async () => {
    await assertProperty(consistentWorld, (outcome) => {
      for (const { on, key, is } of changesOfOwner(outcome)) {
        if (is?.machine !== on.script.machine) continue;
        const owner = ownerOf(outcome, key);
        assert.ok(!owner || !canReach(on, owner), 'two owners');
      }
    });
  });

  test('an unresponsive peer causes no release, no move and no claim of an id that apps mint', async () => {
    await assertProperty(consistentWorld, (outcome) => {
      for (const { on, key, was, is } of changesOfOwner(outcome)) {
        const self = on.script.machine;
        // The Machine that placed the session here does not own it.
        const isPlaced = outcome.flow.visits.some(
          (of) => of.machine === self && of.placedBy !== undefined && of.placedBy === was?.machine,
        );
        const isNotOwner =
          isPlaced || (was !== undefined && hasPassedOn(outcome, was.machine, key));
        if (is?.machine === self) {
          const isMinted = keyOf(`new-${self}`) === key;
          const isOfClient = outcome.flow.served.some(
            (of) => of.machine === self && of.key === key && of.mintedBy !== 'app',
          );
          // A forward skips the peer lookup: acceptance by the app is enough.
          const mayClaim =
            isOfClient || !hadInconclusiveLookup(on) || wasForwardedTo(outcome, self);
          assert.ok(isMinted || mayClaim, 'adopted');
          assert.ok(was === undefined || isNotOwner || on.considersGone(was.machine), 'moved');
        }
        if (is === undefined && was && was.machine !== self) {
          // The Machine rejected a forward, so it does not own the session.
          assert.ok(isNotOwner || wasForwardedTo(outcome, was.machine), 'released');
        }
      }
    });
  });

  test('an unresponsive peer ends no session: 404 requires a response of every possible owner', async () => {
    await assertProperty(consistentWorld, ({ response, machines }) => {
      if (response.by !== 'sidecar' || response.status !== 404) return;
      const by = response.machine && machines.get(response.machine);
      assert.ok(by && !hadInconclusiveLookup(by) && !by.script.isStoreBusy);
    });
  });

  test('a client that sends the id it received reaches the owner if all Machines run', async () => {
    const property = fc.asyncProperty(healthyWorld, async ({ world, owner }) => {
      const { flow, response } = await sendRequest(world);
      assert.deepEqual([response.by, response.machine], ['app', owner]);
      assert.equal(flow.served.length, 1);
    });
    await fc.assert(property, RUNS);
  });
});

function ownerOf({ machines, before }: RequestOutcome, key: SessionKey): ModelMachine | undefined {
  return [...machines.values()].find(
    ({ script: { machine } }) => before.get(machine)?.get(key)?.machine === machine,
  );
}

/** Whether the two Machines respond to each other. */
function canReach({ script: one }: ModelMachine, { script: other }: ModelMachine): boolean {
  return (
    one.lists.includes(other.machine) &&
    other.lists.includes(one.machine) &&
    one.answersPeers &&
    other.answersPeers &&
    !one.isStoreBusy &&
    !other.isStoreBusy
  );
}

/** Whether a possible owner did not respond to the last lookup. */
function hadInconclusiveLookup({ lookups }: ModelMachine): boolean {
  return lookups.at(-1)?.kind === 'inconclusive';
}

function wasForwardedTo({ flow }: RequestOutcome, machine: MachineId): boolean {
  return flow.visits.some((visit) => visit.machine === machine && visit.from === 'peer');
}
