/** The names in `.internal` (https://fly.io/docs/networking/private-networking/). Pure. */
import type { MachineId } from '../session.ts';
import {
  appName,
  deployedMachinesName,
  formatMachinesTxt,
  machineName,
  processGroupName,
  runningMachinesName,
} from '../fly.ts';
import type { LifecycleState } from './targets.ts';

/** A Machine as the private network sees it. */
export interface NetworkMachine {
  readonly id: MachineId;
  readonly app: string;
  readonly region: string;
  readonly processGroup: string;
  readonly state: LifecycleState;
  /** The port of its peer listener, on 127.0.0.1. */
  readonly peerPort: number;
}

/** All Machines share one local address, and the private network has one port. */
export const MACHINE_ADDRESS = '::ffff:127.0.0.1';

const INSTANCES_NAME = '_instances.internal';
const ALL_INSTANCES_NAME = 'all._instances.internal';

/** Undefined if the name does not exist; an empty list if it has no record of that type. */
export function resolveInternal(
  name: string,
  type: 'TXT' | 'AAAA' | undefined,
  machines: readonly NetworkMachine[],
): readonly string[] | undefined {
  const deployed = machines.filter(({ state }) => state !== 'destroyed');
  const running = deployed.filter(runs);
  const texts = textsUnder(name, deployed, running);
  const addresses = running.filter((machine) => addressNames(machine).includes(name));
  if (texts === undefined && addresses.length === 0) return undefined;
  if (type === 'TXT') return texts ?? [];
  return type === 'AAAA' ? addresses.map(() => MACHINE_ADDRESS) : [];
}

/** Whether its processes run, including while they start or stop. */
export function runs({ state }: { readonly state: LifecycleState }): boolean {
  return state === 'starting' || state === 'started' || state === 'stopping';
}

/** Names with the addresses of running Machines. */
function addressNames({ id, app, region, processGroup }: NetworkMachine): string[] {
  const ofApp = appName(app);
  return [
    machineName(app, id),
    processGroupName(app, processGroup),
    ofApp,
    `global.${ofApp}`,
    `${region}.${ofApp}`,
  ];
}

/** TXT names exist while the app has a Machine, running or not. */
function textsUnder(
  name: string,
  deployed: readonly NetworkMachine[],
  running: readonly NetworkMachine[],
): string[] | undefined {
  if (name === INSTANCES_NAME) return [instancesText(running)];
  if (name === ALL_INSTANCES_NAME) return [instancesText(deployed)];
  const app = deployed.find(
    (machine) =>
      name === runningMachinesName(machine.app) || name === deployedMachinesName(machine.app),
  )?.app;
  if (app === undefined) return undefined;
  const listed = name === runningMachinesName(app) ? running : deployed;
  return formatMachinesTxt(listed.filter((machine) => machine.app === app)).map((strings) =>
    strings.join(''),
  );
}

function instancesText(machines: readonly NetworkMachine[]): string {
  return machines
    .map(
      ({ id, app, region }) => `instance=${id},app=${app},ip=${MACHINE_ADDRESS},region=${region}`,
    )
    .join(';');
}
