/** A simulated app on Fly.io: Machines, edge, private network and resolver, started and ended as one. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import {
  deploy,
  type DeployStrategy,
  createMachineMaker,
  type MachineEnvironment,
  type FleetOptions,
} from './fleet.ts';
import { startDnsServer, type DnsServer } from './dns.ts';
import { startEdge, type EdgeOptions } from './edge.ts';
import type { ProcessName, SimulatedMachine } from './machine.ts';
import { createNetwork, type Network, type NetworkFaults } from './network.ts';
import { createPrivateNetwork } from './private-network.ts';
import { createProcessKeeper } from './processes.ts';
import type { EdgeRequestRecord } from './records.ts';
import type { SpreadName } from './spread.ts';

export interface SimulationOptions {
  /** The app's command and its arguments; `PORT` tells it where to listen. */
  readonly appCommand: readonly string[];
  /** How a sidecar is started; without it the edge goes straight to the apps. */
  readonly sidecarCommand?: readonly string[];
  /** What the processes inherit, `PATH` above all. */
  readonly env: MachineEnvironment;
  /** Settings of the sidecars, on top of those that tie them to their Machine. */
  readonly sidecarEnv?: MachineEnvironment;
  readonly machineCount?: number;
  readonly appName?: string;
  readonly clock: Clock;
  /** From 0 up to but not including 1. */
  readonly random: () => number;
  readonly edge?: Omit<
    EdgeOptions,
    'app' | 'machines' | 'clock' | 'random' | 'lineTo' | 'onRecord'
  >;
  /** Where the volumes are; by default a directory that is removed at the end. */
  readonly directory?: string;
  /** Each line that a process of a Machine writes. */
  readonly onLine?: (machine: MachineId, source: ProcessName, line: string) => void;
}

export interface Simulation {
  /** The edge: `http://127.0.0.1:<port>` */
  readonly url: string;
  /** `host:port` of the resolver for `.internal`. */
  readonly dnsAddress: string;
  /** In the order of their making; destroyed ones stay among them. */
  readonly machines: readonly SimulatedMachine[];
  /** The latest requests, in the order of their answers; the oldest are dropped beyond 10,000. */
  readonly requests: readonly EdgeRequestRecord[];
  /** Calls back with each request from now on, when its answer's head is known. */
  onRequest(listener: (record: EdgeRequestRecord) => void): void;
  setSpread(name: SpreadName): void;
  /** For cutting it, and for mending it again. */
  readonly network: Network;
  /** A new id, ports and volume; resolves when it listens. One that can't be started is destroyed. */
  addMachine(region?: string): Promise<SimulatedMachine>;
  /** Resolves when the last Machine listens, or the last old one is gone. */
  deploy(strategy: DeployStrategy): Promise<void>;
  /** Ends all processes and frees all that was taken. */
  close(): Promise<void>;
}

const DEFAULT_MACHINE_COUNT = 3;
const DEFAULT_APP_NAME = 'simulated-app';
const MAX_RECORDS = 10_000;

/** Resolves when every Machine listens. If anything can't be started, nothing is left running. */
export async function startSimulation(options: SimulationOptions): Promise<Simulation> {
  const endings: Endings = [];
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => (closing ??= endAll(endings));
  try {
    return { ...(await start(options, endings)), close };
  } catch (error) {
    await close();
    throw error;
  }
}

type Endings = (() => Promise<void>)[];

/** What was started last ends first. */
async function endAll(endings: Endings): Promise<void> {
  for (const end of endings.reverse()) await end();
}

/** What it starts it adds to `endings`. */
async function start(
  options: SimulationOptions,
  endings: Endings,
): Promise<Omit<Simulation, 'close'>> {
  const app = options.appName ?? DEFAULT_APP_NAME;
  const machines: SimulatedMachine[] = [];
  const requests = createRecords();
  const network = createNetwork(() => machines, options.clock);
  const surroundings = await startSurroundings(options, { machines, network }, endings);
  // Before the Machines: a port that is taken is said at once.
  const edge = await startEdge({
    ...options.edge,
    app,
    machines: () => machines,
    clock: options.clock,
    random: options.random,
    lineTo: (machine) => network.line('edge', machine),
    onRecord: requests.add,
  });
  endings.push(() => edge.close());
  const makeMachine = createMachineMaker(fleetOptions(options, app, surroundings));
  const machineCount = options.machineCount ?? DEFAULT_MACHINE_COUNT;
  for (let i = 0; i < machineCount; i += 1) machines.push(await makeMachine());
  await settleAll(machines.map((machine) => machine.start()));
  const addMachine = async (region?: string): Promise<SimulatedMachine> => {
    const machine = await makeMachine(region);
    machines.push(machine);
    try {
      await machine.start();
    } catch (error) {
      await machine.destroy();
      throw error;
    }
    return machine;
  };
  return {
    url: edge.url,
    dnsAddress: surroundings.dnsAddress,
    machines,
    requests: requests.all,
    onRequest: requests.onAdded,
    setSpread: (name) => edge.setSpread(name),
    network,
    addMachine,
    deploy: (strategy) => deploy({ machines, addMachine }, strategy),
  };
}

interface Surroundings extends Pick<FleetOptions, 'directory' | 'attach' | 'keeper'> {
  /** Of the resolver that is nobody's in particular. */
  readonly dnsAddress: string;
}

/** What the Machines need to be there before they start. */
async function startSurroundings(
  options: SimulationOptions,
  { machines, network }: { machines: readonly SimulatedMachine[]; network: NetworkFaults },
  endings: Endings,
): Promise<Surroundings> {
  const directory = options.directory ?? (await makeDirectory(endings));
  const resolvers: DnsServer[] = [];
  const startResolver = async (asker?: MachineId): Promise<string> => {
    const resolver = await startDnsServer(
      () => machines,
      () => network.resolver(asker),
    );
    resolvers.push(resolver);
    return resolver.address;
  };
  endings.push(() => settleAll(resolvers.map((resolver) => resolver.close())));
  const privateNetwork = createPrivateNetwork({
    machines: () => machines,
    lineBetween: network.line,
    clock: options.clock,
  });
  endings.push(() => privateNetwork.close());
  const keeper = createProcessKeeper(options.clock);
  endings.push(() => keeper.close());
  endings.push(() => settleAll(machines.map((machine) => machine.shutDown())));
  // Nothing may wait for a line to be mended while it is to end.
  endings.push(() => {
    network.close();
    return Promise.resolve();
  });
  const attach: FleetOptions['attach'] = async (machine) => ({
    dnsAddress: await startResolver(machine),
    peerDialPort: await privateNetwork.openPort(machine),
  });
  return { directory, dnsAddress: await startResolver(), attach, keeper };
}

function fleetOptions(
  options: SimulationOptions,
  appName: string,
  surroundings: Surroundings,
): FleetOptions {
  return {
    ...options,
    ...surroundings,
    appName,
    sidecarCommand: options.sidecarCommand,
    sidecarEnv: options.sidecarEnv ?? {},
    onLine: (...line) => options.onLine?.(...line),
  };
}

/** Waits for all, so that what fails early leaves nothing behind that is just being done. */
async function settleAll(doings: readonly Promise<void>[]): Promise<void> {
  const outcomes = await Promise.allSettled(doings);
  const failed = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failed) throw failed.reason;
}

async function makeDirectory(endings: Endings): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'fly-affinity-'));
  endings.push(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

function createRecords(): {
  readonly all: readonly EdgeRequestRecord[];
  readonly add: (record: EdgeRequestRecord) => void;
  readonly onAdded: (listener: (record: EdgeRequestRecord) => void) => void;
} {
  const all: EdgeRequestRecord[] = [];
  const listeners: ((record: EdgeRequestRecord) => void)[] = [];
  return {
    all,
    add: (record) => {
      all.push(record);
      if (all.length > MAX_RECORDS) all.shift();
      for (const listener of listeners) listener(record);
    },
    onAdded: (listener) => void listeners.push(listener),
  };
}
