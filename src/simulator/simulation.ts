/** A simulated app on Fly.io: Machines, edge, private network and resolver, started and ended as one. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MachineId } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';
import { startDnsServer } from './dns.ts';
import { startEdge, type EdgeOptions } from './edge.ts';
import { createFleet, type Environment, type FleetOptions } from './fleet.ts';
import type { ProcessName, SimulatedMachine } from './machine.ts';
import { startPrivateNetwork } from './private-network.ts';
import { createProcessKeeper } from './processes.ts';
import type { RequestRecord } from './records.ts';
import type { SpreadName } from './spread.ts';

export interface SimulationOptions {
  /** The app's command and its arguments; `PORT` tells it where to listen. */
  readonly appCommand: readonly string[];
  /** How a sidecar is started; without it the edge goes straight to the apps. */
  readonly sidecarCommand?: readonly string[];
  /** What the processes inherit, `PATH` above all. */
  readonly env: Environment;
  /** Settings of the sidecars, on top of those that tie them to their Machine. */
  readonly sidecarEnv?: Environment;
  readonly machineCount?: number;
  readonly appName?: string;
  readonly clock: Clock;
  /** From 0 up to but not including 1. */
  readonly random: () => number;
  readonly edge?: Omit<EdgeOptions, 'app' | 'machines' | 'clock' | 'random' | 'onRecord'>;
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
  readonly machines: readonly SimulatedMachine[];
  /** The latest requests, in the order of their answers; the oldest are dropped beyond 10,000. */
  readonly requests: readonly RequestRecord[];
  /** Calls back with each request from now on, when its answer's head is known. */
  onRequest(listener: (record: RequestRecord) => void): void;
  setSpread(name: SpreadName): void;
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
  const surroundings = await startSurroundings(options, machines, endings);
  // Before the Machines: a port that is taken is said at once.
  const edge = await startEdge({
    ...options.edge,
    app,
    machines: () => machines,
    clock: options.clock,
    random: options.random,
    onRecord: requests.add,
  });
  endings.push(() => edge.close());
  machines.push(...(await createFleet(fleetOptions(options, app, surroundings))));
  await settleAll(machines.map(({ id }) => makeVolume(surroundings.directory, id)));
  await settleAll(machines.map((machine) => machine.start()));
  return {
    url: edge.url,
    dnsAddress: surroundings.dnsAddress,
    machines,
    requests: requests.all,
    onRequest: requests.onAdded,
    setSpread: (name) => edge.setSpread(name),
  };
}

type Surroundings = Pick<FleetOptions, 'directory' | 'dnsAddress' | 'peerDialPort' | 'keeper'>;

/** What the Machines need to be there before they start. */
async function startSurroundings(
  options: SimulationOptions,
  machines: readonly SimulatedMachine[],
  endings: Endings,
): Promise<Surroundings> {
  const directory = options.directory ?? (await makeDirectory(endings));
  const dns = await startDnsServer(() => machines);
  endings.push(() => dns.close());
  const network = await startPrivateNetwork(() => machines);
  endings.push(() => network.close());
  const keeper = createProcessKeeper(options.clock);
  endings.push(() => keeper.close());
  endings.push(() => settleAll(machines.map((machine) => machine.shutDown())));
  return { directory, dnsAddress: dns.address, peerDialPort: network.port, keeper };
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
    machineCount: options.machineCount ?? DEFAULT_MACHINE_COUNT,
    sidecarCommand: options.sidecarCommand,
    sidecarEnv: options.sidecarEnv ?? {},
    onLine: (...line) => options.onLine?.(...line),
  };
}

async function makeVolume(directory: string, machine: MachineId): Promise<void> {
  await mkdir(join(directory, machine), { recursive: true });
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
  readonly all: readonly RequestRecord[];
  readonly add: (record: RequestRecord) => void;
  readonly onAdded: (listener: (record: RequestRecord) => void) => void;
} {
  const all: RequestRecord[] = [];
  const listeners: ((record: RequestRecord) => void)[] = [];
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
