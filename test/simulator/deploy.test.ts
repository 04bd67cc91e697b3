import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deploy, type DeployableMachine, type DeployStrategy } from '../../src/simulator/fleet.ts';
import type { LifecycleState } from '../../src/simulator/targets.ts';

/** Machines that record the operations on them; each operation ends a turn later. */
function appOf(states: Record<string, LifecycleState>) {
  const log: string[] = [];
  const machineOf = (id: string, state: LifecycleState) => {
    const become = async (doing: string, next: LifecycleState): Promise<void> => {
      log.push(`${doing} ${id}`);
      await Promise.resolve();
      machine.state = next;
      log.push(`${id} ${next}`);
    };
    const machine = {
      id,
      region: id,
      state,
      start: () => become('start', 'started'),
      stop: () => become('stop', 'stopped'),
      destroy: () => become('destroy', 'destroyed'),
    } satisfies DeployableMachine & { readonly id: string };
    return machine;
  };
  const machines = Object.entries(states).map(([id, state]) => machineOf(id, state));
  const addMachine = async (region: string) => {
    const machine = machineOf(`new-${region}`, 'stopped');
    machines.push(machine);
    await machine.start();
    return machine;
  };
  return { machines, addMachine, log };
}

const SCENARIOS: readonly [strategy: DeployStrategy, log: readonly string[]][] = [
  [
    'rolling',
    [
      ...['stop a', 'a stopped', 'start a', 'a started'],
      ...['stop b', 'b stopped', 'start b', 'b started'],
    ],
  ],
  [
    'immediate',
    [
      ...['stop a', 'stop b', 'a stopped', 'b stopped'],
      ...['start a', 'start b', 'a started', 'b started'],
    ],
  ],
  [
    'bluegreen',
    [
      ...['start new-a', 'start new-b', 'new-a started', 'new-b started'],
      ...['stop a', 'stop b', 'a stopped', 'b stopped'],
      ...['destroy a', 'destroy b', 'a destroyed', 'b destroyed'],
    ],
  ],
];

for (const [strategy, log] of SCENARIOS) {
  test(`a ${strategy} deploy: ${log.join(', ')}`, async () => {
    const app = appOf({ a: 'started', b: 'suspended' });
    await deploy(app, strategy);
    assert.deepEqual(app.log, log);
  });
}

test('a stopped Machine stays stopped, but a bluegreen deploy replaces it; a destroyed one is ignored', async () => {
  const states = { a: 'stopped', b: 'destroyed' } as const;
  const rolling = appOf(states);
  await deploy(rolling, 'rolling');
  assert.deepEqual(rolling.log, []);
  const bluegreen = appOf(states);
  await deploy(bluegreen, 'bluegreen');
  assert.deepEqual(bluegreen.log, ['start new-a', 'new-a started', 'destroy a', 'a destroyed']);
});
