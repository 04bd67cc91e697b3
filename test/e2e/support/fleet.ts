/** Machines with app and sidecar as processes, behind an edge that does not support affinity. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { MachineId } from '../../../src/session.ts';
import { systemClock } from '../../../src/clock.ts';
import type { ProcessName, SimulatedMachine } from '../../../src/simulator/machine.ts';
import type { ReplayCacheRule } from '../../../src/simulator/replay-cache.ts';
import { startSimulation, type Simulation } from '../../../src/simulator/simulation.ts';
import type { SpreadName } from '../../../src/simulator/spread.ts';
import { journalNow } from '../apps/journal.ts';
import { createLedger, type Ledger } from './ledger.ts';
import type { Target } from './target.ts';
import { until } from './until.ts';

export interface Fleet {
  readonly target: Target;
  readonly simulation: Simulation;
  readonly machines: readonly SimulatedMachine[];
  readonly ledger: Ledger;
  machine(id: string): SimulatedMachine;
  /** Freezes or resumes a Machine's sidecar and app, without notice to any other process. */
  signal(machine: SimulatedMachine, appPid: number, name: 'SIGSTOP' | 'SIGCONT'): void;
  /** The sidecar alone: connections to it wait. */
  signalSidecar(machine: SimulatedMachine, name: 'SIGSTOP' | 'SIGCONT'): void;
  /** Waits until the record of every request is complete, and ends all processes. */
  close(): Promise<void>;
}

export interface FleetOptions {
  readonly hints: boolean;
  /** Three by default. */
  readonly machineCount?: number;
  /** One Machine in each, in place of `machineCount` Machines in regions of their own. */
  readonly regions?: readonly string[];
  /** Another app than that of `../apps`. */
  readonly appCommand?: readonly string[];
  /** `never-same` by default. */
  readonly spread?: SpreadName;
  /** Additional settings of the sidecars; undefined: not set. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** The key of the edge's replay cache, as in `fly.toml`; none by default. */
  readonly replayCache?: readonly ReplayCacheRule[];
  /** Fleets that start at the same time must choose different ports. */
  readonly random?: () => number;
  /** Called with each line of a process. */
  readonly onLine?: (machine: MachineId, source: ProcessName, line: string) => void;
}

const pathOf = (file: string): string => fileURLToPath(new URL(file, import.meta.url));
/** Without the settings of the test runner's environment. */
const INHERITED = { PATH: process.env.PATH };
const PID_MARK = '@pid ';

export async function startFleet(t: TestContext, options: FleetOptions): Promise<Fleet> {
  const ledger = createLedger();
  const sidecarPids = new Map<MachineId, number>();
  const simulation = await startSimulation({
    appCommand: options.appCommand ?? [process.execPath, pathOf('../apps/main.ts')],
    sidecarCommand: [
      process.execPath,
      ...['--import', pathOf('print-pid.ts')],
      pathOf('../../../src/main.ts'),
      'serve',
    ],
    env: INHERITED,
    sidecarEnv: {
      SESSION_PROTOCOLS: 'mcp,mcp-sse,rpc,cookie:sid',
      SESSION_ID_HINTS: String(options.hints),
      DRAIN_TIMEOUT_MS: '200',
      ...options.env,
    },
    clock: systemClock,
    random: options.random ?? Math.random,
    ...(options.machineCount !== undefined && { machineCount: options.machineCount }),
    ...(options.regions && { machineCount: 0 }),
    edge: { spread: options.spread ?? 'never-same', replayCache: options.replayCache ?? [] },
    onLine: (machine, source, line) => {
      if (process.env.E2E_LINES !== undefined) console.log(machine, source, line);
      options.onLine?.(machine, source, line);
      if (line.startsWith(PID_MARK)) sidecarPids.set(machine, Number(line.slice(PID_MARK.length)));
      else ledger.noteLine(machine, source, line);
    },
  });
  simulation.onRequest((record) => ledger.noteRecord(record));
  t.after(() => simulation.close());
  await Promise.all((options.regions ?? []).map((region) => simulation.addMachine(region)));
  return fleetOf(simulation, options, ledger, sidecarPids);
}

function fleetOf(
  simulation: Simulation,
  { hints }: FleetOptions,
  ledger: Ledger,
  sidecarPids: ReadonlyMap<MachineId, number>,
): Fleet {
  const { url, machines } = simulation;
  for (const machine of machines) watchMemory(machine, ledger);
  const signalSidecar: Fleet['signalSidecar'] = ({ id }, name) => {
    const sidecarPid = sidecarPids.get(id);
    assert.ok(sidecarPid, `the sidecar of ${id} has printed its pid`);
    process.kill(sidecarPid, name);
  };
  return {
    target: { url, hints },
    simulation,
    machines,
    ledger,
    machine: (id) => {
      const found = machines.find((machine) => machine.id === id);
      assert.ok(found, `${id} is a Machine of the fleet`);
      return found;
    },
    signalSidecar,
    signal: (machine, appPid, name) => {
      signalSidecar(machine, name);
      process.kill(appPid, name);
    },
    close: async () => {
      await until(() => ledger.incomplete());
      await simulation.close();
    },
  };
}

/** Every loss of a Machine's memory is recorded in the ledger. */
export function watchMemory(machine: SimulatedMachine, ledger: Ledger): void {
  const takers = ['stop', 'crash', 'destroy'] as const;
  for (const taker of takers) {
    const take = machine[taker].bind(machine);
    machine[taker] = async () => {
      const from = journalNow();
      await take();
      ledger.noteLoss({ machine: machine.id, from, until: journalNow() });
    };
  }
}
