/** The Machines of a simulated app: their ids, ports, volumes and environments. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseMachineId, type MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import { parseConfig } from '../config/config.ts';
import { namesAsSet, PREFIX } from '../config/environment.ts';
import { InvalidSettings } from '../config/mistakes.ts';
import {
  KILL_TIMEOUT_MS,
  SimulatedMachine,
  type MachinePorts,
  type ProcessName,
} from './machine.ts';
import { createPortFinder, type ProcessKeeper } from './processes.ts';
import { MACHINE_ADDRESS } from './zone.ts';
import type { LifecycleState } from './targets.ts';

export type MachineEnvironment = Readonly<Record<string, string | undefined>>;

/** The private network of one Machine, so that the simulator knows the source of each query and call. */
interface Attachment {
  /** `host:port` of its resolver for `.internal`. */
  readonly dnsAddress: string;
  /** Where its sidecar dials the others. */
  readonly peerDialPort: number;
  /** Where it suspends itself. */
  readonly apiSocket: string;
}

export interface FleetOptions {
  readonly appName: string;
  readonly appCommand: readonly string[];
  /** Undefined: Machines without sidecar. */
  readonly sidecarCommand: readonly string[] | undefined;
  /** The environment of every process. */
  readonly env: MachineEnvironment;
  /** Settings of the sidecars. */
  readonly sidecarEnv: MachineEnvironment;
  /** Each Machine has its volume in here. */
  readonly directory: string;
  /** Gives a Machine its own ports on the private network. */
  readonly attach: (machine: MachineId) => Promise<Attachment>;
  readonly keeper: ProcessKeeper;
  readonly clock: Clock;
  readonly random: () => number;
  readonly onLine: (machine: MachineId, source: ProcessName, line: string) => void;
  /** An app that is waited for listens at `origin`, and not on `port`. */
  readonly onAppElsewhere: (origin: string, port: number) => void;
}

const PROCESS_GROUP = 'app';

const HOST = '127.0.0.1';
const REGIONS = ['iad', 'lhr', 'nrt', 'gru', 'syd'] as const;
/** The time for a sidecar to exit before it is killed. */
const DRAIN_MARGIN_MS = 1_000;
/** The first digit is never 0, so that an id never parses as a shorter number. */
const MACHINE_ID_DIGITS = 14;

/** Creates a Machine with its own id, ports and volume, but does not start it. */
type MakeMachine = (region?: string) => Promise<SimulatedMachine>;

/** Without an explicit region, each Machine gets the next region in turn. */
export function createMachineMaker(options: FleetOptions): MakeMachine {
  const findPort = createPortFinder(options.random);
  let made = 0;
  return async (given) => {
    const region = given ?? REGIONS[made++ % REGIONS.length] ?? REGIONS[0];
    const id = newMachineId(options.random);
    const ports = await findPorts(findPort, options.sidecarCommand !== undefined);
    const attachment = await options.attach(id);
    const volume = join(options.directory, id);
    await mkdir(volume, { recursive: true });
    return createMachine(options, { id, region, ports, attachment, volume });
  };
}

/** The resources of one Machine. */
interface Resources {
  readonly id: MachineId;
  readonly region: string;
  readonly ports: MachinePorts;
  readonly attachment: Attachment;
  readonly volume: string;
}

function createMachine(options: FleetOptions, belongings: Resources): SimulatedMachine {
  const { appName, appCommand, sidecarCommand, keeper, clock } = options;
  const { id, region, ports } = belongings;
  const sidecarEnv = sidecarEnvironment(options, belongings);
  return new SimulatedMachine({
    id,
    app: appName,
    region,
    processGroup: PROCESS_GROUP,
    ports,
    appPlan: {
      command: appCommand,
      env: { ...options.env, ...flyEnvironment(id, appName, region), PORT: String(ports.app) },
    },
    sidecarPlan: sidecarCommand && { command: sidecarCommand, env: sidecarEnv },
    sendsTraces: parseConfig(sidecarEnv, () => 0).config?.tracing !== undefined,
    keeper,
    clock,
    onLine: (source, line) => options.onLine(id, source, line),
    onAppElsewhere: (origin) => options.onAppElsewhere(origin, ports.app),
  });
}

type SidecarOptions = Pick<FleetOptions, 'appName' | 'env' | 'sidecarEnv'>;

/** A Machine's own settings win over those of the environment, whatever their names there. */
function sidecarEnvironment(
  { appName, env, sidecarEnv }: SidecarOptions,
  belongings: Resources,
): MachineEnvironment {
  const own: MachineEnvironment = {
    ...flyEnvironment(belongings.id, appName, belongings.region),
    ...sidecarSettings(belongings),
    ...sidecarEnv,
  };
  const prefixed = new Set(Object.keys(own).map((name) => `${PREFIX}${name}`));
  const inherited = Object.entries(env).filter(([name]) => !prefixed.has(name));
  return { ...Object.fromEntries(inherited), ...own };
}

/** The environment of one Machine: enough to check the settings, which all Machines share. */
const ANY_MACHINE: Resources = {
  id: 'any' as MachineId,
  region: REGIONS[0],
  ports: { public: 1, peer: 2, admin: 3, app: 4 },
  attachment: { dnsAddress: '127.0.0.1:53', peerDialPort: 2, apiSocket: '/.fly/api' },
  volume: '/',
};

/** Throws if no sidecar would start with these settings. */
export function checkSidecarSettings(options: SidecarOptions, random: () => number): void {
  const { mistakes } = parseConfig(sidecarEnvironment(options, ANY_MACHINE), random);
  if (mistakes) throw new InvalidSettings(mistakes.map(namesAsSet(options.env)));
}

/** https://fly.io/docs/machines/runtime-environment/ */
function flyEnvironment(id: MachineId, appName: string, region: string): MachineEnvironment {
  return {
    FLY_MACHINE_ID: id,
    FLY_ALLOC_ID: id,
    FLY_APP_NAME: appName,
    FLY_REGION: region,
    FLY_PROCESS_GROUP: PROCESS_GROUP,
    FLY_PRIVATE_IP: MACHINE_ADDRESS,
    PRIMARY_REGION: REGIONS[0],
  };
}

function sidecarSettings({ ports, attachment, volume }: Resources): MachineEnvironment {
  return {
    HOST,
    PORT: String(ports.public),
    PEER_PORT: String(ports.peer),
    PEER_DIAL_PORT: String(attachment.peerDialPort),
    ADMIN_PORT: String(ports.admin),
    UPSTREAM_URL: `http://${HOST}:${ports.app}`,
    SESSION_STORE_PATH: join(volume, 'session-store.sqlite'),
    SUSPEND_SOCKET: attachment.apiSocket,
    FLEET: 'auto',
    DRAIN_TIMEOUT_MS: String(KILL_TIMEOUT_MS - DRAIN_MARGIN_MS),
    FLEET_RESOLVER: attachment.dnsAddress,
  };
}

async function findPorts(
  findPort: () => Promise<number>,
  hasSidecar: boolean,
): Promise<MachinePorts> {
  const app = await findPort();
  const service = hasSidecar ? await findPort() : app;
  return { public: service, peer: await findPort(), admin: await findPort(), app };
}

/** In Fly's format: `d8901e5b6e1234`. */
function newMachineId(random: () => number): MachineId {
  const digit = (from: number): string => (from + Math.floor(random() * (16 - from))).toString(16);
  const text = digit(1) + Array.from({ length: MACHINE_ID_DIGITS - 1 }, () => digit(0)).join('');
  const id = parseMachineId(text);
  if (id === undefined) throw new Error(`not a Machine id: ${text}`);
  return id;
}

/**
 * `rolling`: one Machine after the other is stopped and started. `immediate`: all at once. Both keep
 * ids and volumes. `bluegreen`: as many new Machines are started, and once they listen the old ones
 * are stopped and destroyed; ids and volumes are new.
 */
export type DeployStrategy = 'rolling' | 'bluegreen' | 'immediate';

export interface DeployableMachine {
  readonly region: string;
  readonly state: LifecycleState;
  start(): Promise<void>;
  stop(): Promise<void>;
  destroy(): Promise<void>;
}

interface Deployable<Machine extends DeployableMachine> {
  readonly machines: readonly Machine[];
  /** Resolves when the new Machine listens. */
  addMachine(region: string): Promise<Machine>;
}

/** A rolling deploy continues with the next Machine once the one before listens. */
export async function deploy<Machine extends DeployableMachine>(
  app: Deployable<Machine>,
  strategy: DeployStrategy,
): Promise<void> {
  const old = app.machines.filter(({ state }) => state !== 'destroyed');
  switch (strategy) {
    case 'rolling':
      for (const machine of old) await replaceVersion(machine);
      return;
    case 'immediate':
      await Promise.all(old.map(replaceVersion));
      return;
    case 'bluegreen':
      await Promise.all(old.map(({ region }) => app.addMachine(region)));
      await Promise.all(old.map(retire));
  }
}

/** A stopped Machine gets the new version when it starts. */
async function replaceVersion(machine: DeployableMachine): Promise<void> {
  if (!isUp(machine)) return;
  await machine.stop();
  await machine.start();
}

async function retire(machine: DeployableMachine): Promise<void> {
  if (isUp(machine)) await machine.stop();
  await machine.destroy();
}

/** A suspended Machine loses its memory too: a deploy discards the snapshot. */
function isUp({ state }: DeployableMachine): boolean {
  return state === 'started' || state === 'suspended';
}
