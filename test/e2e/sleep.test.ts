/** Machines of a simulated app that suspend themselves, on a socket like Fly's, and are woken by the edge. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import type { SimulatedMachine } from '../../src/simulator/machine.ts';
import { openRpcSession } from './scenarios/rpc.ts';
import { atFirstOn, callWithRetries, openVisitors, type Visitor } from './scenarios/visitors.ts';
import { startFleet, type Fleet } from './support/fleet.ts';
import { retryingFetch } from './support/retrying-fetch.ts';
import { until } from './support/until.ts';

/** A test that hangs ends, and stops its Machines. */
const TIMEOUT_MS = 120_000;
const AFTER_MS = 1_500;
/** Without it, `/status` hides the reason of a failure, which may name a path. */
const TOKEN = '0123456789abcdef';
/** A shorter stop of a process is taken for a busy computer. */
const NOTICED_MS = 1_200;
/** Longer than a Machine that is listed as stopped needs to count as gone. */
const LONG_MS = 20_000;

const sleeping = (env: Readonly<Record<string, string>> = {}) => ({
  SUSPEND_AFTER: String(AFTER_MS),
  ADMIN_TOKEN: TOKEN,
  ...env,
});

/** Sessions of each kind on this Machine, without an open socket or stream: those keep it awake. */
async function openGuests({ target }: Fleet, { id }: SimulatedMachine): Promise<Visitor[]> {
  const visitors = await openVisitors(target, id);
  const [calls, others] = [['call'], ['mcp', 'upload', 'socket']].map((kinds) =>
    visitors.filter(({ kind }) => kinds.includes(kind)),
  );
  await Promise.all((others ?? []).map((visitor) => visitor.leave()));
  return calls ?? [];
}

/** Resolves when all have slept so long that each will notice it. */
async function untilAsleep(machines: readonly SimulatedMachine[]): Promise<void> {
  await until(() =>
    machines
      .filter(({ state }) => state !== 'suspended')
      .map(({ id, state }) => `${id} is ${state}`),
  );
  await systemClock.sleep(NOTICED_MS);
}

interface Status {
  readonly fleet: { readonly asleep: number };
  readonly sleep: {
    readonly state: string;
    readonly suspended: number;
    readonly lastFailure?: string;
  };
}

async function statusOf({ ports }: SimulatedMachine): Promise<Status> {
  const headers = { authorization: `Bearer ${TOKEN}` };
  const response = await fetch(`http://127.0.0.1:${ports.admin}/status`, { headers });
  return (await response.json()) as Status;
}

async function callAll(guests: readonly Visitor[]): Promise<void> {
  for (const guest of guests) await callWithRetries(guest);
}

describe('Machines that suspend themselves', () => {
  for (const hints of [true, false]) {
    test(
      `with hints ${hints ? 'on' : 'off'}: sessions survive when all sleep at once, the last ones too`,
      { timeout: TIMEOUT_MS },
      async (t) => {
        const fleet = await startFleet(t, { hints, env: sleeping() });
        const guests = (
          await Promise.all(fleet.machines.map((machine) => openGuests(fleet, machine)))
        ).flat();
        for (let nights = 0; nights < 2; nights += 1) {
          await untilAsleep(fleet.machines);
          await callAll(guests);
        }
        const [first] = fleet.machines;
        assert.ok(first);
        const { sleep } = await statusOf(first);
        assert.ok(sleep.suspended >= 2, JSON.stringify(sleep));
        await fleet.close();
        assert.deepEqual(fleet.ledger.faults(), []);
        assert.equal(fleet.ledger.count({ why: 'unknown-session' }), 0);
        assert.equal(fleet.ledger.count({ why: 'owner-gone' }), 0);
      },
    );
  }

  test(
    'are not gone while others are awake, with OWNER_STOPPED=gone',
    { timeout: TIMEOUT_MS },
    async (t) => {
      const fleet = await startFleet(t, {
        hints: false,
        env: sleeping({ OWNER_STOPPED: 'gone', OWNER_GONE: 'adopt' }),
      });
      const [sleeper, awake] = fleet.machines;
      assert.ok(sleeper && awake);
      const guests = await openGuests(fleet, sleeper);
      const { id } = await openRpcSession(fleet.target, atFirstOn(awake.id));
      const useAwake = (): Promise<Response> =>
        retryingFetch(`${fleet.target.url}/rpc/call?session_id=${id}`, {
          headers: { 'fly-prefer-instance-id': awake.id },
        });
      const endsAt = systemClock.monotonicMs() + LONG_MS;
      while (systemClock.monotonicMs() < endsAt || sleeper.state !== 'suspended') {
        assert.equal((await useAwake()).status, 200);
        await systemClock.sleep(AFTER_MS / 5);
      }
      assert.equal((await statusOf(awake)).fleet.asleep, 2);
      await callAll(guests);
      await fleet.close();
      assert.deepEqual(fleet.ledger.faults(), []);
    },
  );

  for (const [behavior, reason] of [
    ['refuses', /responds 400: .*too much memory/],
    ['fails', /responds 500/],
  ] as const) {
    test(`serve on when Fly.io ${behavior}`, { timeout: TIMEOUT_MS }, async (t) => {
      const fleet = await startFleet(t, { hints: true, env: sleeping(), machineCount: 2 });
      fleet.simulation.setSuspendBehavior(behavior);
      const [machine] = fleet.machines;
      assert.ok(machine);
      const guests = await openGuests(fleet, machine);
      await until(async () => {
        const { lastFailure } = (await statusOf(machine)).sleep;
        return lastFailure !== undefined && reason.test(lastFailure) ? [] : ['the failure'];
      });
      assert.equal(machine.state, 'started');
      await callAll(guests);
    });
  }

  test(
    'are woken when the response of Fly.io comes after the suspend',
    { timeout: TIMEOUT_MS },
    async (t) => {
      const fleet = await startFleet(t, { hints: true, env: sleeping(), machineCount: 2 });
      fleet.simulation.setSuspendBehavior('suspends-first');
      const [machine] = fleet.machines;
      assert.ok(machine);
      const guests = await openGuests(fleet, machine);
      await untilAsleep(fleet.machines);
      await callAll(guests);
    },
  );

  test('take new sessions after a deploy while they slept', { timeout: TIMEOUT_MS }, async (t) => {
    const fleet = await startFleet(t, { hints: true, env: sleeping(), machineCount: 2 });
    await untilAsleep(fleet.machines);
    await fleet.simulation.deploy('rolling');
    const [machine] = fleet.machines;
    assert.ok(machine);
    await callAll(await openGuests(fleet, machine));
  });

  test(
    'lose no request that comes in the moment of a suspend',
    { timeout: TIMEOUT_MS },
    async (t) => {
      const fleet = await startFleet(t, {
        hints: true,
        env: sleeping({ SUSPEND_AFTER: '1s' }),
        machineCount: 2,
      });
      const [machine] = fleet.machines;
      assert.ok(machine);
      const guests = await openGuests(fleet, machine);
      // Each pause ends around the moment in which the Machine closes its ports and is suspended.
      for (let pauseMs = 980; pauseMs <= 1_120; pauseMs += 10) {
        await systemClock.sleep(pauseMs);
        await callAll(guests);
      }
      await fleet.close();
      assert.deepEqual(fleet.ledger.faults(), []);
    },
  );
});
