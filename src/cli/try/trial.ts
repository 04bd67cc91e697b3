/** One trial: a few simulated Machines of an app, with or without sidecars, and the traffic. */
import type { Clock } from '../../clock.ts';
import { createProbeClient, type HeaderFields, type ProbeClient } from '../../probe/http-client.ts';
import { checkSidecarSettings } from '../../simulator/fleet.ts';
import type { SimulatedMachine } from '../../simulator/machine.ts';
import {
  startSimulation,
  type Simulation,
  type SimulationOptions,
} from '../../simulator/simulation.ts';
import { residentBytesOf } from './memory.ts';
import { seededRandom } from './random.ts';
import { runTraffic, type Traffic, type TrafficResult } from './traffic.ts';

export interface TrialOptions {
  readonly appCommand: readonly string[];
  /** Undefined: without sidecars. */
  readonly sidecarCommand: readonly string[] | undefined;
  readonly machineCount: number;
  readonly port: number;
  readonly seed: number;
  readonly env: SimulationOptions['env'];
  readonly sidecarEnv: SimulationOptions['env'];
  readonly headers: HeaderFields;
  /** For each request of the client; the default is the client's. */
  readonly timeoutMs?: number | undefined;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly onLine: NonNullable<SimulationOptions['onLine']>;
  readonly onAppElsewhere?: NonNullable<SimulationOptions['onAppElsewhere']>;
}

export interface Trial {
  readonly simulation: Simulation;
  readonly client: ProbeClient;
  run(traffic: Traffic, onHalf?: (simulation: Simulation) => Promise<void>): Promise<TrialResult>;
  close(): Promise<void>;
}

export interface TrialResult extends TrafficResult {
  /** Planned in each session. */
  readonly callsPlanned: number;
  /** Of one Machine, in bytes: the largest; undefined where it is not known. */
  readonly memory: { readonly app: number | undefined; readonly sidecar: number | undefined };
  /** Of the apps that have exited. */
  readonly lastLines: readonly string[];
}

/** Throws if no sidecar would start with these settings. */
export function checkSettings({ env, sidecarEnv, seed }: TrialOptions): void {
  checkSidecarSettings({ appName: 'app', env, sidecarEnv }, seededRandom(seed));
}

/** Rejects if a Machine does not start. */
export async function startTrial(options: TrialOptions): Promise<Trial> {
  const { clock, headers, timeoutMs, sidecarCommand, onAppElsewhere, port, seed, ...others } =
    options;
  const simulation = await startSimulation({
    ...others,
    ...(sidecarCommand && { sidecarCommand }),
    ...(onAppElsewhere && { onAppElsewhere }),
    clock,
    random: seededRandom(seed),
    edge: { port, spread: 'random' },
  });
  const client = createProbeClient({
    origin: simulation.url,
    headers,
    clock,
    ...(timeoutMs !== undefined && { timeoutMs }),
  });
  return {
    simulation,
    client,
    run: async (traffic, onHalf) => {
      const recordOf = createRecordFinder(simulation);
      const { signal } = options;
      const half = onHalf && { onHalf: () => onHalf(simulation) };
      const hasLostApp = (): boolean =>
        simulation.machines.some((machine) => machine.lastLinesOfEndedApp() !== undefined);
      const parts = { client, clock, recordOf, signal, hasLostApp, ...half };
      const result = await runTraffic(traffic, parts);
      return { ...result, callsPlanned: traffic.calls, ...stateOf(simulation.machines) };
    },
    close: async () => {
      await client.close();
      await simulation.close();
    },
  };
}

/** By the id that the edge gives to each request. */
function createRecordFinder({
  requests,
}: Simulation): (requestId: string) => Simulation['requests'][number] | undefined {
  return (requestId) => requests.findLast((record) => record.requestId === requestId);
}

function stateOf(machines: readonly SimulatedMachine[]): Pick<TrialResult, 'memory' | 'lastLines'> {
  const largest = (name: 'app' | 'sidecar'): number | undefined => {
    const sizes = machines.flatMap((machine) => residentBytesOf(machine.processesOf(name)) ?? []);
    return sizes.length === 0 ? undefined : Math.max(...sizes);
  };
  return {
    memory: { app: largest('app'), sidecar: largest('sidecar') },
    lastLines: machines.flatMap((machine) => machine.lastLinesOfEndedApp() ?? []),
  };
}
