/** A simulated app on Fly.io: starts and ends Machines, edge, private network and resolver together. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import {
  checkSidecarSettings,
  deploy,
  type DeployStrategy,
  createMachineMaker,
  type MachineEnvironment,
  type FleetOptions,
} from './fleet.ts';
import { startDnsServer, type DnsServer } from './dns.ts';
import { startEdge, type EdgeOptions } from './edge.ts';
import type { ProcessName, SimulatedMachine } from './machine.ts';
import { createMachinesApi, type SuspendBehavior } from './machines-api.ts';
import { createNetwork, type Network, type NetworkFaults } from './network.ts';
import { createPrivateNetwork } from './private-network.ts';
import { createProcessKeeper } from './processes.ts';
import type { EdgeRequestRecord } from './records.ts';
import type { SpreadName } from './spread.ts';

export interface SimulationOptions {
  /** The app's command and its arguments; it listens on `PORT`. */
  readonly appCommand: readonly string[];
  /** The command of a sidecar; without it, the edge connects directly to the apps. */
  readonly sidecarCommand?: readonly string[];
  /** The environment that the processes inherit, such as `PATH`. */
  readonly env: MachineEnvironment;
  /** Settings of the sidecars, in addition to those of their Machine. */
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
  /** The directory of the volumes; by default a temporary one. */
  readonly directory?: string;
  /** Each line that a process of a Machine writes. */
  readonly onLine?: (machine: MachineId, source: ProcessName, line: string) => void;
  /** An app that is waited for listens at `origin`, and not on `port`, which it gets as `PORT`. */
  readonly onAppElsewhere?: (origin: string, port: number) => void;
  /** Ends a start in progress, which then rejects. */
  readonly signal?: AbortSignal;
}

export interface Simulation {
  /** The edge: `http://127.0.0.1:<port>` */
  readonly url: string;
  /** `host:port` of the resolver for `.internal`. */
  readonly dnsAddress: string;
  /** In the order of creation, including destroyed ones. */
  readonly machines: readonly SimulatedMachine[];
  /** The latest requests, in the order of their responses; the oldest are dropped beyond 10,000. */
  readonly requests: readonly EdgeRequestRecord[];
  /** Calls back with each new request when it has a response head. */
  onRequest(listener: (record: EdgeRequestRecord) => void): void;
  setSpread(name: SpreadName): void;
  /** What a Machine gets that suspends itself. */
  setSuspendBehavior(behavior: SuspendBehavior): void;
  /** For injecting and removing faults. */
  readonly network: Network;
  /** A new id, ports and volume; resolves when it listens. One that can't be started is destroyed. */
  addMachine(region?: string): Promise<SimulatedMachine>;
  /** Resolves when the last new Machine listens and the last old one is gone. */
  deploy(strategy: DeployStrategy): Promise<void>;
  /** Ends all processes and frees all resources. */
  close(): Promise<void>;
}

const DEFAULT_MACHINE_COUNT = 3;
const DEFAULT_APP_NAME = 'simulated-app';
const MAX_RECORDS = 10_000;

/** Resolves when every Machine listens. Rejects with InvalidSettings before anything starts; if anything fails to start, everything is stopped. */
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

/** In reverse order of starting. */
async function endAll(endings: Endings): Promise<void> {
  for (const end of endings.reverse()) await end();
}

/** Adds everything that it starts to `endings`. */
async function start(
  options: SimulationOptions,
  endings: Endings,
): Promise<Omit<Simulation, 'close'>> {
  const app = options.appName ?? DEFAULT_APP_NAME;
  const { env, sidecarEnv = {}, sidecarCommand, random } = options;
  if (sidecarCommand) checkSidecarSettings({ appName: app, env, sidecarEnv }, random);
  const machines: SimulatedMachine[] = [];
  const requests = createRecords();
  const network = createNetwork(() => machines, options.clock);
  const services = await startServices(options, { machines, network }, endings);
  // Before the Machines, so that a port in use is reported at once.
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
  const makeMachine = createMachineMaker(fleetOptions(options, app, services));
  const machineCount = options.machineCount ?? DEFAULT_MACHINE_COUNT;
  for (let i = 0; i < machineCount; i += 1) machines.push(await makeMachine());
  await startAll(machines, options.signal);
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
    dnsAddress: services.dnsAddress,
    machines,
    requests: requests.all,
    onRequest: requests.onAdded,
    setSpread: (name) => edge.setSpread(name),
    setSuspendBehavior: (behavior) => services.setSuspendBehavior(behavior),
    network,
    addMachine,
    deploy: (strategy) => deploy({ machines, addMachine }, strategy),
  };
}

interface Services extends Pick<FleetOptions, 'directory' | 'attach' | 'keeper'> {
  /** The resolver that belongs to no Machine. */
  readonly dnsAddress: string;
  readonly setSuspendBehavior: (behavior: SuspendBehavior) => void;
}

/** Starts what the Machines need before they start. */
async function startServices(
  options: SimulationOptions,
  { machines, network }: { machines: readonly SimulatedMachine[]; network: NetworkFaults },
  endings: Endings,
): Promise<Services> {
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
  const api = createMachinesApi({
    directory: await makeDirectory(endings),
    machines: () => machines,
  });
  endings.push(() => api.close());
  const keeper = createProcessKeeper(options.clock);
  endings.push(() => keeper.close());
  endings.push(() => settleAll(machines.map((machine) => machine.shutDown())));
  // Remove all faults first: nothing may wait for a line while the simulation ends.
  endings.push(() => {
    network.close();
    return Promise.resolve();
  });
  const attach: FleetOptions['attach'] = async (machine) => ({
    dnsAddress: await startResolver(machine),
    peerDialPort: await privateNetwork.openPort(machine),
    apiSocket: await api.open(machine),
  });
  const dnsAddress = await startResolver();
  return {
    directory,
    dnsAddress,
    attach,
    keeper,
    setSuspendBehavior: (given) => api.setBehavior(given),
  };
}

function fleetOptions(
  options: SimulationOptions,
  appName: string,
  services: Services,
): FleetOptions {
  return {
    ...options,
    ...services,
    appName,
    sidecarCommand: options.sidecarCommand,
    sidecarEnv: options.sidecarEnv ?? {},
    onLine: (...line) => options.onLine?.(...line),
    onAppElsewhere: (...place) => options.onAppElsewhere?.(...place),
  };
}

/** If a Machine can't be started, the others are not waited for: they may never listen. */
async function startAll(
  machines: readonly SimulatedMachine[],
  signal: AbortSignal | undefined,
): Promise<void> {
  signal?.throwIfAborted();
  const starts = machines.map((machine) => machine.start());
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(new Error('the start was interrupted'));
  signal?.addEventListener('abort', abort);
  try {
    await Promise.race([Promise.all(starts), aborted.promise]);
  } catch (error) {
    await Promise.all(machines.map((machine) => machine.shutDown()));
    await Promise.allSettled(starts);
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

/** Waits for all, so that an early failure leaves no operation in progress. */
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
