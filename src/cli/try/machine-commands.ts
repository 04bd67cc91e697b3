/** The commands about Machines that `try --keep` reads, such as `crash 2`. */
import type { MachineId } from '../../session.ts';
import type { SimulatedMachine } from '../../simulator/machine.ts';
import type { Undo } from '../../simulator/network.ts';
import type { Simulation } from '../../simulator/simulation.ts';
import { messageOf } from '../../errors.ts';

interface MachineCommand {
  readonly summary: string;
  /** Resolves to what has happened, after "Machine 2". Rejects if the Machine can't do it now. */
  readonly run: (machine: SimulatedMachine) => Promise<string>;
}

interface MachineCommands {
  /** Resolves to a sentence; never rejects. */
  execute(line: string): Promise<string>;
}

const USAGE = 'Commands: a name and the number of a Machine, as in crash 2; quit ends everything.';

export function createMachineCommands(
  { machines, network }: Simulation,
  adminToken: string,
): MachineCommands {
  const commands = commandsFor(network, adminToken);
  const stateOf = ({ id, state, region }: SimulatedMachine, index: number): string =>
    `  ${index + 1}  ${id}  ${region}  ${state}`;
  return {
    execute: async (line) => {
      const [name = '', number = '', ...others] = line.trim().split(/\s+/);
      if (name === 'help') return helpOn(commands);
      if (name === 'machines') return machines.map(stateOf).join('\n');
      const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
      if (!command || others.length > 0) return `No such command. ${USAGE} "help" lists them.`;
      const index = machines.findIndex(({ id }, at) => number === String(at + 1) || number === id);
      const machine = machines[index];
      if (!machine) return `${name} needs a Machine, from 1 to ${machines.length}: ${name} 1`;
      try {
        return `Machine ${index + 1} ${await command.run(machine)}`;
      } catch (error) {
        return messageOf(error);
      }
    },
  };
}

function commandsFor(
  network: Simulation['network'],
  adminToken: string,
): Readonly<Record<string, MachineCommand>> {
  const cuts = new Map<MachineId, Undo>();
  const reconnect = (id: MachineId): void => {
    cuts.get(id)?.();
    cuts.delete(id);
  };
  return {
    crash: {
      summary: 'ends it at once; its memory is lost, and Fly Proxy starts it when it is needed',
      run: async (machine) => (await machine.crash(), 'has crashed'),
    },
    stop: {
      summary: 'stops it, as fly machine stop does: it drains, and its memory is lost',
      run: async (machine) => (await machine.stop(), 'is stopped'),
    },
    start: {
      summary: 'starts it again',
      run: async (machine) => (await machine.wake(), 'runs'),
    },
    restart: {
      summary: 'stops it and starts it again',
      run: async (machine) => {
        await machine.stop();
        await machine.start();
        return 'has restarted';
      },
    },
    suspend: {
      summary: 'suspends it with its memory; Fly Proxy resumes it when it is needed',
      run: (machine) => {
        machine.suspend();
        return Promise.resolve('is suspended');
      },
    },
    drain: {
      summary: 'lets it take no new sessions',
      run: (machine) => callSidecar(machine, '/drain', adminToken).then(() => 'drains'),
    },
    undrain: {
      summary: 'lets it take new sessions again',
      run: (machine) =>
        callSidecar(machine, '/undrain', adminToken).then(() => 'takes new sessions'),
    },
    'cut-off': {
      summary: 'cuts it off from Fly Proxy and from the other Machines, without an error',
      run: ({ id }) => {
        reconnect(id);
        cuts.set(id, network.isolate(id));
        return Promise.resolve('is cut off');
      },
    },
    reconnect: {
      summary: 'ends that',
      run: ({ id }) => {
        reconnect(id);
        return Promise.resolve('is connected');
      },
    },
  };
}

function helpOn(commands: Readonly<Record<string, MachineCommand>>): string {
  const lines = Object.entries(commands).map(([name, { summary }]) => [`${name} N`, summary]);
  lines.push(['machines', 'lists the Machines'], ['quit', 'ends everything']);
  return lines.map(([name = '', summary = '']) => `  ${name.padEnd(12)} ${summary}`).join('\n');
}

const TIMEOUT_MS = 2_000;

async function callSidecar(
  { ports }: SimulatedMachine,
  path: string,
  token: string,
): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${ports.admin}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (!response.ok) throw new Error(`the sidecar answered ${response.status}`);
}
