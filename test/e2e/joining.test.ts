/** A Machine that starts after the owner of a session was suspended still finds that owner. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { z } from 'zod';
import type { SimulatedMachine } from '../../src/simulator/machine.ts';
import { openRpcSession } from './scenarios/rpc.ts';
import { atFirstOn } from './scenarios/visitors.ts';
import { startFleet, type Fleet } from './support/fleet.ts';
import { until } from './support/until.ts';

const Readiness = z.object({ fleet: z.object({ others: z.number() }) });

test('a Machine that joins sends a session to its suspended owner, where it continues', async (t) => {
  const { fleet, owner, newcomer, id } = await openScene(t, (machine) => machine.suspend());
  const response = await callOn(fleet, newcomer, id);
  assert.equal(response.status, 200);
  const called = z.object({ machine: z.string(), count: z.number() }).parse(await response.json());
  assert.deepEqual(called, { machine: owner.id, count: 2 });
  assert.equal(owner.state, 'started');
});

test('a Machine that joins sends a session to its stopped owner, which starts', async (t) => {
  const { fleet, owner, newcomer, id } = await openScene(t, (machine) => machine.stop());
  await callOn(fleet, newcomer, id);
  // Its app has lost its memory and returns an error; no other app receives the request.
  assert.equal(owner.state, 'started');
  await until(() => fleet.ledger.incomplete());
  const last = fleet.ledger.records.at(-1);
  const ways = fleet.ledger.decisions.filter(({ requestId }) => requestId === last?.requestId);
  const served = ways.filter(({ decision }) => decision === 'local').map(({ machine }) => machine);
  assert.deepEqual(served, [owner.id]);
});

interface Scene {
  readonly fleet: Fleet;
  readonly owner: SimulatedMachine;
  readonly newcomer: SimulatedMachine;
  /** The id of the owner's session, without a Machine hint. */
  readonly id: string;
}

async function openScene(
  t: TestContext,
  sleep: (machine: SimulatedMachine) => Promise<void> | void,
): Promise<Scene> {
  const fleet = await startFleet(t, { hints: false, machineCount: 2 });
  const [owner, other] = fleet.machines;
  assert.ok(owner && other);
  const { id, machine } = await openRpcSession(fleet.target, atFirstOn(owner.id));
  assert.equal(machine, owner.id);
  // Then the other one knows it, too.
  assert.equal((await callOn(fleet, other, id)).status, 200);
  await sleep(owner);
  await until(async () => ((await othersSeenBy(other)) === 0 ? [] : ['the owner is still listed']));
  const newcomer = await fleet.simulation.addMachine();
  await until(async () => ((await bindingsReadBy(newcomer)) === 1 ? [] : ['no binding was read']));
  return { fleet, owner, newcomer, id };
}

function callOn({ target }: Fleet, { id: machine }: SimulatedMachine, id: string) {
  return atFirstOn(machine)(`${target.url}/rpc/call?session_id=${id}`);
}

async function othersSeenBy({ ports }: SimulatedMachine): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${ports.admin}/readyz`);
  return Readiness.parse(await response.json()).fleet.others;
}

async function bindingsReadBy({ ports }: SimulatedMachine): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${ports.admin}/metrics`);
  const metrics = await response.text();
  return Number(/^fly_affinity_bindings_read_total (\d+)$/m.exec(metrics)?.[1]);
}
