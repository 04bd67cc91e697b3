import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { systemClock } from '../../src/clock.ts';
import type { SimulatedMachine } from '../../src/simulator/machine.ts';
import { openRpcSession } from './scenarios/rpc.ts';
import {
  atFirstOn,
  callWithRetries,
  callUntil,
  openVisitors,
  type Visitor,
} from './scenarios/visitors.ts';
import { startFleet, type Fleet } from './support/fleet.ts';
import { retryingFetch } from './support/retrying-fetch.ts';
import { until } from './support/until.ts';

/** A test that hangs ends, and stops its Machines. */
const TIMEOUT_MS = 120_000;
const REPLAY_TIMEOUT_MS = 1_000;
/** Longer than a peer waits for a response, and longer than the edge tries to deliver a replay. */
const SLOW_MS = 1_500;

// Most of the time is spent waiting for directory readings and slow Machines.
describe('no live session is lost', { concurrency: 2 }, () => {
  for (const hints of [true, false]) testDisturbances(hints);
});

function testDisturbances(hints: boolean): void {
  test(`with hints ${hints ? 'on' : 'off'}:`, { timeout: TIMEOUT_MS }, async (t) => {
    const fleet = await startFleet(t, {
      hints,
      env: { REPLAY_TIMEOUT_MS: String(REPLAY_TIMEOUT_MS) },
      random: () => (Math.random() + Number(hints)) / 2,
    });
    const scene = await openScene(fleet);

    await t.test('while the sidecars are restarted, one after the other', () => restartAll(scene));
    await t.test('when its Machine was suspended and the edge wakes it', () => suspendOne(scene));
    await t.test('when its Machine responds late', () => respondLate(scene));
    await t.test('when its Machine is frozen for a while', () => standStill(scene));
    await t.test('when no other Machine knows it and its Machine is frozen', () =>
      freezeUnlisted(scene),
    );
    await t.test('when its Machine is unreachable for a while', () => beUnreachable(scene));
    await t.test('when its Machine takes long to resume', () => wakeSlowly(scene));
    await t.test(
      'no call reaches the wrong Machine, or takes more than one replay or one forward',
      async () => {
        await Promise.all(scene.visitors.map((visitor) => visitor.leave()));
        await fleet.close();
        assert.deepEqual(fleet.ledger.faults(), []);
        // A store that has lost its sessions in a restart would fail here.
        assert.equal(fleet.ledger.count({ why: 'unknown-session' }), 0);
      },
    );
  });
}

/** A fleet in use: clients of each kind on each of its Machines. */
interface Scene {
  readonly fleet: Fleet;
  readonly visitors: readonly Visitor[];
  /** The Machine that is disturbed. */
  readonly machine: SimulatedMachine;
  /** The clients whose sessions are there. */
  readonly guests: readonly Visitor[];
}

async function openScene(fleet: Fleet): Promise<Scene> {
  const { target, machines } = fleet;
  const groups = await Promise.all(machines.map(({ id }) => openVisitors(target, id)));
  const [machine] = machines;
  const [guests] = groups;
  assert.ok(machine && guests);
  return { fleet, visitors: groups.flat(), machine, guests };
}

async function restartAll({ fleet, visitors }: Scene): Promise<void> {
  let isOver = false;
  const visits = Promise.all(visitors.map((visitor) => callUntil(visitor, () => isOver)));
  try {
    for (const machine of fleet.machines) await machine.restartSidecar('SIGTERM');
  } finally {
    isOver = true;
  }
  await visits;
  await Promise.all(visitors.map((visitor) => visitor.nextPush()));
}

async function suspendOne({ fleet, machine, guests }: Scene): Promise<void> {
  const awake = fleet.machines.filter((other) => other !== machine);
  machine.suspend();
  // Until then its peers would still expect its responses.
  await untilSeeingOthers(awake, 1);
  await callAll(guests);
  assert.equal(machine.state, 'started');
  await Promise.all(guests.map((guest) => guest.nextPush()));
  await untilSeeingOthers(awake, 2);
}

/** Directories are read every five seconds. */
async function untilSeeingOthers(
  machines: readonly SimulatedMachine[],
  count: number,
): Promise<void> {
  await until(async () => {
    const seen = await Promise.all(machines.map(othersSeenBy));
    return seen.filter((others) => others !== count).map((others) => `${others} others seen`);
  });
}

const Readiness = z.object({ fleet: z.object({ others: z.number() }) });

/** How many other Machines this one's sidecar considers running. */
async function othersSeenBy({ ports }: SimulatedMachine): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${ports.admin}/readyz`);
  return Readiness.parse(await response.json()).fleet.others;
}

async function respondLate({ fleet, machine }: Scene): Promise<void> {
  const { target } = fleet;
  const { id, pid } = await openRpcSession(target, atFirstOn(machine.id));
  const late = await fetch(`${target.url}/rpc/call?session_id=${id}&wait_ms=${SLOW_MS}`);
  assert.equal(late.status, 200);
  assert.deepEqual(Place.parse(await late.json()), { machine: machine.id, pid });
}

const Place = z.object({ machine: z.string(), pid: z.number() });

async function standStill({ fleet, machine, guests }: Scene): Promise<void> {
  const [guest] = guests;
  assert.ok(guest);
  fleet.signal(machine, guest.pid, 'SIGSTOP');
  const calls = callAll(guests);
  await systemClock.sleep(SLOW_MS);
  fleet.signal(machine, guest.pid, 'SIGCONT');
  await calls;
}

async function freezeUnlisted({ fleet, machine }: Scene): Promise<void> {
  const { target } = fleet;
  const [, ignorant] = fleet.machines;
  assert.ok(ignorant);
  await ignorant.stopSidecar();
  const { id, pid } = await openRpcSession(target, atFirstOn(machine.id));
  await ignorant.startSidecar();
  fleet.signal(machine, pid, 'SIGSTOP');
  const call = retryingFetch(`${target.url}/rpc/call?session_id=${id}`, {
    headers: { 'fly-prefer-instance-id': ignorant.id },
  });
  await systemClock.sleep(SLOW_MS);
  fleet.signal(machine, pid, 'SIGCONT');
  const response = await call;
  assert.equal(response.status, 200);
  assert.deepEqual(Place.parse(await response.json()), { machine: machine.id, pid });
}

async function beUnreachable({ fleet, machine, guests }: Scene): Promise<void> {
  const { target } = fleet;
  const { id } = await openRpcSession(target, atFirstOn(machine.id));
  await machine.stopSidecar();
  try {
    const { status, headers } = await fetch(`${target.url}/rpc/call?session_id=${id}`);
    assert.deepEqual([status, headers.get('retry-after')], [503, '1']);
  } finally {
    await machine.startSidecar();
  }
  await callAll(guests);
}

async function wakeSlowly({ machine, guests }: Scene): Promise<void> {
  machine.suspend();
  const wake = machine.wake.bind(machine);
  machine.wake = async () => {
    await systemClock.sleep(SLOW_MS);
    await wake();
  };
  await callAll(guests);
  machine.wake = wake;
}

async function callAll(visitors: readonly Visitor[]): Promise<void> {
  await Promise.all(visitors.map((visitor) => callWithRetries(visitor)));
}
