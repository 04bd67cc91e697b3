/** Applies the planned fault to a Machine, and reverts it. */
import assert from 'node:assert/strict';
import type { SimulatedMachine } from '../../../src/simulator/machine.ts';
import { watchMemory, type Fleet } from '../support/fleet.ts';
import type { FaultName } from './plan.ts';

export const ADMIN_TOKEN = 'who-makes-chaos-may-drain';

/** Reverts it; resolves with the Machine that has the place from now on, once it listens. */
export type End = () => Promise<SimulatedMachine>;

type BeginFault = (machine: SimulatedMachine, fleet: Fleet) => Promise<End>;

/** Longer than a peer waits for a response. */
const SLOW_MS = 500;

const FAULTS: Readonly<Record<FaultName, BeginFault>> = {
  crash: async (machine) => {
    await machine.crash();
    return () => awake(machine);
  },
  stop: async (machine) => {
    await machine.stop();
    return () => awake(machine);
  },
  suspend: (machine) => {
    machine.suspend();
    return Promise.resolve(() => awake(machine));
  },
  'no-sidecar': async (machine) => {
    await machine.stopSidecar();
    return async () => {
      await machine.startSidecar();
      return machine;
    };
  },
  'silent-sidecar': (machine, fleet) => {
    fleet.signalSidecar(machine, 'SIGSTOP');
    return undone(machine, () => fleet.signalSidecar(machine, 'SIGCONT'));
  },
  partition: (machine, { simulation: { network } }) => {
    const undoIn = network.cut({ from: 'machines', to: machine.id });
    const undoOut = network.cut({ from: machine.id, to: 'machines' });
    return undone(machine, undoIn, undoOut);
  },
  'cut-off': (machine, { simulation: { network } }) =>
    undone(machine, network.cut({ from: 'edge', to: machine.id })),
  slow: (machine, { simulation: { network } }) => {
    const undoEdge = network.delay({ from: 'edge', to: machine.id }, SLOW_MS);
    const undoPeers = network.delay({ from: 'machines', to: machine.id }, SLOW_MS);
    return undone(machine, undoEdge, undoPeers);
  },
  drain: async (machine) => {
    await post(machine, '/drain');
    return async () => {
      await post(machine, '/undrain');
      return machine;
    };
  },
  replace: async (machine, { simulation, ledger }) => {
    await machine.destroy();
    return async () => {
      const replacement = await simulation.addMachine(machine.region);
      watchMemory(replacement, ledger);
      return replacement;
    };
  },
};

export function beginFault(name: FaultName, machine: SimulatedMachine, fleet: Fleet): Promise<End> {
  return FAULTS[name](machine, fleet);
}

/** The edge may have started it already. */
async function awake(machine: SimulatedMachine): Promise<SimulatedMachine> {
  await machine.wake();
  return machine;
}

function undone(machine: SimulatedMachine, ...undos: readonly (() => void)[]): Promise<End> {
  return Promise.resolve(() => {
    for (const undo of undos) undo();
    return Promise.resolve(machine);
  });
}

async function post({ ports }: SimulatedMachine, path: string): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${ports.admin}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
  });
  assert.ok(response.ok, `${path} returned ${response.status}`);
  await response.body?.cancel();
}
