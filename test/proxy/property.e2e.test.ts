/**
 * Whatever stores, hints, peers and directories say, and whatever a client sends: the real request
 * path between a model of the edge, of peers and of apps (`model/`).
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Binding, MachineId, SessionKey } from '../../src/session.ts';
import { parseReplaySource, REPLAY_MARK } from '../../src/fly.ts';
import { headerValue } from '../../src/protocols/heads.ts';
import { readEdgeFields } from '../../src/routing/facts.ts';
import { keyOf } from '../support/ids.ts';
import { anyWorld, consistentWorld, quietWorld } from './model/arbitraries.ts';
import { REPLAY_MAX_BODY_BYTES, type ModelMachine } from './model/machine.ts';
import { runsOf } from './model/runs.ts';
import { Way } from './model/way.ts';
import {
  openMachines,
  reachIn,
  rowsOf,
  travel,
  type Travelled,
  type WorldScript,
} from './model/world.ts';

const RUNS = runsOf(2_000);

async function holds(
  worlds: fc.Arbitrary<WorldScript>,
  claim: (travelled: Travelled, world: WorldScript) => void,
): Promise<void> {
  const property = fc.asyncProperty(worlds, async (world) => claim(await travel(world), world));
  await fc.assert(property, RUNS);
}

interface Change {
  readonly on: ModelMachine;
  readonly key: SessionKey;
  readonly was: Binding | undefined;
  readonly is: Binding | undefined;
}

/** The rows whose owner is another than before, or that have come or gone. */
function changesOfOwner({ machines, before, after }: Travelled): Change[] {
  return [...machines].flatMap(([machine, on]) => {
    const [was, is] = [before.get(machine), after.get(machine)];
    const keys = new Set([...(was?.keys() ?? []), ...(is?.keys() ?? [])]);
    return [...keys]
      .map((key) => ({ on, key, was: was?.get(key), is: is?.get(key) }))
      .filter((change) => change.was?.machine !== change.is?.machine);
  });
}

/** Whether that Machine's app has taken the session for its own. */
function hasAccepted({ way, machines }: Travelled, machine: MachineId, key: SessionKey): boolean {
  const app = machines.get(machine)?.script.app;
  if (!app || app.replays) return false;
  const isAccepted = app.status === 101 || (app.status >= 200 && app.status < 300);
  return way.served.some((of) => {
    if (of.machine !== machine) return false;
    const hasMinted = app.mints !== undefined && keyOf(app.mints) === key;
    const mayAccept = of.method !== 'OPTIONS' && of.method !== 'HEAD';
    return hasMinted || (isAccepted && mayAccept && of.key === key);
  });
}

describe('in any world, any request', () => {
  test('gets one answer, after at most one replay and one forward', async () => {
    await holds(anyWorld, ({ way, answer }) => {
      assert.ok(answer.status >= 100);
      assert.ok(way.replayed.length <= 1, 'replayed twice');
      assert.ok(way.forwardCount <= 1, 'forwarded twice');
      assert.ok(way.visits.length <= 3, 'a loop');
      for (const visit of way.visits) assert.equal(visit.answerCount, 1);
    });
  });

  test('is not replayed once it was replayed, has come back, or is too large', async () => {
    await holds(anyWorld, ({ way }) => {
      for (const { rawHeaders } of way.replayed) {
        // What a client has written in the edge's name comes before what the edge adds.
        const { replaySource = '', replayFailed } = readEdgeFields(rawHeaders);
        assert.notEqual(parseReplaySource(replaySource).state, REPLAY_MARK);
        assert.equal(replayFailed, undefined);
        assert.equal(headerValue(rawHeaders, 'transfer-encoding'), undefined);
        const length = Number(headerValue(rawHeaders, 'content-length') ?? 0);
        assert.ok(length <= REPLAY_MAX_BODY_BYTES);
      }
    });
  });

  test('is explained as it is then handled, and explaining it changes nothing', async () => {
    const property = fc.asyncProperty(anyWorld, async (world) => {
      const machines = await openMachines(world);
      const before = await rowsOf(machines);
      const machine = machines.get(world.first) ?? assert.fail('no such Machine');
      const { steps } = await machine.explain({ ...world.request, from: 'edge' });
      for (const each of machines.values()) await each.settled();
      assert.deepEqual([await rowsOf(machines), machine.decided], [before, []]);
      await new Way(reachIn(machines)).visit(machine, world.request, 'edge');
      const [decision] = machine.decided;
      const last = steps.at(-1);
      assert.deepEqual(last?.step === 'decision' && last.decision, decision);
    });
    await fc.assert(property, RUNS);
  });

  test('binds a session to a Machine only where its app accepts it, or as that Machine says', async () => {
    await holds(anyWorld, (travelled) => {
      for (const { on, key, is } of changesOfOwner(travelled)) {
        if (!is) continue;
        const self = on.script.machine;
        if (is.machine === self) assert.ok(hasAccepted(travelled, self, key), 'bound by asking');
        else assert.ok(isSaidByOwner(travelled, on, is), 'copied from nobody');
      }
    });
  });

  test('reaches no app whose sidecar knows the session to be elsewhere', async () => {
    await holds(anyWorld, ({ machines, way, before }) => {
      for (const { machine, key, decision } of way.served) {
        // Its app has sent it here, which a client may pretend for its own request.
        if (decision.why === 'app-replay') continue;
        const on = machines.get(machine);
        if (key === undefined) continue;
        const owner = before.get(machine)?.get(key)?.machine;
        if (!on || on.script.isStoreBusy || owner === undefined || owner === machine) continue;
        const isKnownToOwner = before.get(owner)?.get(key)?.machine === owner;
        // It has sent the request on itself, and says that it does not have the session.
        const isDisowned = !isKnownToOwner && way.visits.some((of) => of.machine === owner);
        assert.ok(isDisowned || on.isForGone(owner), 'served in spite of its owner');
      }
    });
  });

  test('claims an id that clients mint only where it is placed, and that no peer has said to own', async () => {
    await holds(anyWorld, (travelled) => {
      for (const { on, key, is } of changesOfOwner(travelled)) {
        const { machine: self, app } = on.script;
        const isMinted = app.mints !== undefined && keyOf(app.mints) === key;
        if (is?.machine !== self || isMinted) continue;
        const served = travelled.way.served.find((of) => of.machine === self && of.key === key);
        if (served?.mintedBy === 'app') continue;
        assert.ok(served?.decision.kind === 'local' && served.decision.mayClaim, 'not placed here');
        assert.equal(on.heard.at(-1)?.kind === 'owner', false, 'a peer owns it');
      }
    });
  });
});

/** Asked or unasked, now or before. */
function isSaidByOwner(
  { machines, before }: Travelled,
  { script: { told } }: ModelMachine,
  { key, machine, origin }: Binding,
): boolean {
  const isTold = told?.kind === 'owner' && told.machine === machine;
  const isAnnounced = machines.get(machine)?.announced.has(key) ?? false;
  const isTrue = before.get(machine)?.get(key)?.machine === machine;
  return origin === 'copied' && (isTold || isAnnounced || isTrue);
}

describe('where every session has one owner', () => {
  test('no request, whatever it pretends, moves or ends a session whose own app does not say so', async () => {
    await holds(consistentWorld, (travelled) => {
      for (const { on, was } of changesOfOwner(travelled)) {
        const self = on.script.machine;
        if (was?.machine !== self) continue;
        const isEnded = travelled.way.served.some(
          ({ machine, method, key }) => machine === self && method === 'DELETE' && key === was.key,
        );
        assert.ok(isEnded, 'moved or deleted');
      }
    });
  });

  test('nobody else keeps a session whose owner can be heard', async () => {
    await holds(consistentWorld, (travelled) => {
      for (const { on, key, is } of changesOfOwner(travelled)) {
        if (is?.machine !== on.script.machine) continue;
        const owner = ownerOf(travelled, key);
        assert.ok(!owner || !canHear(on, owner), 'two owners');
      }
    });
  });

  test('silence gives nothing up, moves nothing and adopts no id of an app', async () => {
    await holds(consistentWorld, (travelled) => {
      for (const { on, key, was, is } of changesOfOwner(travelled)) {
        const self = on.script.machine;
        // Who has placed it here has said that it does not have it.
        const isDisowned = travelled.way.visits.some(
          (of) => of.machine === self && of.placedBy !== undefined && of.placedBy === was?.machine,
        );
        if (is?.machine === self) {
          const isMinted = keyOf(`new-${self}`) === key;
          const isOfClient = travelled.way.served.some(
            (of) => of.machine === self && of.key === key && of.mintedBy !== 'app',
          );
          // Named by a forward, it asks nobody: its app's word is enough, whatever it met before.
          const mayClaim = isOfClient || !hasMetSilence(on) || wasForwardedTo(travelled, self);
          assert.ok(isMinted || mayClaim, 'adopted');
          assert.ok(was === undefined || isDisowned || on.isForGone(was.machine), 'moved');
        }
        if (is === undefined && was && was.machine !== self) {
          // Asked by a forward it has disowned the session then, too.
          assert.ok(isDisowned || wasForwardedTo(travelled, was.machine), 'given up');
        }
      }
    });
  });

  test('silence ends no session: 404 is said only when all who could know have spoken', async () => {
    await holds(consistentWorld, ({ answer, machines }) => {
      if (answer.by !== 'sidecar' || answer.status !== 404) return;
      const by = answer.machine && machines.get(answer.machine);
      assert.ok(by && !hasMetSilence(by) && !by.script.isStoreBusy);
    });
  });

  test('a client that says what it was told reaches the owner, when everybody is there', async () => {
    const property = fc.asyncProperty(quietWorld, async ({ world, owner }) => {
      const { way, answer } = await travel(world);
      assert.deepEqual([answer.by, answer.machine], ['app', owner]);
      assert.equal(way.served.length, 1);
    });
    await fc.assert(property, RUNS);
  });
});

function ownerOf({ machines, before }: Travelled, key: SessionKey): ModelMachine | undefined {
  return [...machines.values()].find(
    ({ script: { machine } }) => before.get(machine)?.get(key)?.machine === machine,
  );
}

/** Whether each of the two answers the other. */
function canHear({ script: one }: ModelMachine, { script: other }: ModelMachine): boolean {
  return (
    one.lists.includes(other.machine) &&
    other.lists.includes(one.machine) &&
    one.answersPeers &&
    other.answersPeers &&
    !one.isStoreBusy &&
    !other.isStoreBusy
  );
}

/** A peer that could know has not said a word. */
function hasMetSilence({ heard }: ModelMachine): boolean {
  return heard.at(-1)?.kind === 'inconclusive';
}

function wasForwardedTo({ way }: Travelled, machine: MachineId): boolean {
  return way.visits.some((visit) => visit.machine === machine && visit.from === 'peer');
}
