/** Fly's private DNS: whether this Machine finds its fleet, and itself in it. */
import type { Clock } from '../clock.ts';
import type { Identity } from '../config/config.ts';
import { normalizeAddress } from '../fleet/addresses.ts';
import {
  deployedMachinesName,
  machineName,
  parseMachinesTxt,
  processGroupName,
  runningMachinesName,
} from '../fly.ts';
import type { PeerEndpoint } from './peers.ts';
import { errorCodeOf, withTimeout } from './probe.ts';
import type { MachineId } from '../session.ts';
import { error, note, ok, warning, type Finding } from './report.ts';

/** One name that was asked for. */
export type DnsListing<Value> =
  | { readonly kind: 'answered'; readonly values: readonly Value[] }
  | { readonly kind: 'failed'; readonly code: string };

export interface DnsFacts {
  readonly app: string;
  readonly self: MachineId;
  readonly running: DnsListing<MachineId>;
  readonly deployed: DnsListing<MachineId>;
  /** Of this Machine. */
  readonly addresses: DnsListing<string>;
  /** Undefined if no group is set. */
  readonly group: { readonly name: string; readonly addresses: DnsListing<string> } | undefined;
}

export function checkDns(facts: DnsFacts): Finding[] {
  const { app, self, running, deployed } = facts;
  const lists = [
    { name: `vms.${app}.internal`, listing: running },
    { name: `all.vms.${app}.internal`, listing: deployed },
  ];
  const findings = lists.flatMap(({ name, listing }) => judgeList(name, listing, self));
  if (findings.length > 0) return findings;
  const count = running.kind === 'answered' ? running.values.length : 0;
  return [
    ok(`vms.${app}.internal and all.vms.${app}.internal list this Machine.`),
    ...judgeCount(count),
    ...judgeGroup(facts),
  ];
}

const UNTRUSTED =
  'Without a list that it can trust, a sidecar asks nobody, and gives no owner up as gone.';

function judgeList(name: string, listing: DnsListing<MachineId>, self: MachineId): Finding[] {
  if (listing.kind === 'failed') {
    return [
      error(
        `${name} has no answer (${listing.code}).`,
        UNTRUSTED,
        'look at FLEET_RESOLVER; on Fly.io it is best unset, and the resolver is fdaa::3',
      ),
    ];
  }
  if (listing.values.includes(self)) return [];
  return [
    error(
      `${name} does not list this Machine (${self}).`,
      UNTRUSTED,
      'FLY_APP_NAME and FLY_MACHINE_ID as Fly.io sets them, and the resolver of this organisation',
    ),
  ];
}

function judgeCount(count: number): Finding[] {
  if (count > 1) return [ok(`${count} Machines run.`)];
  return [
    note('This is the only Machine that runs.', 'There is nobody to ask.', 'fly scale count 2'),
  ];
}

function judgeGroup({ group, addresses }: DnsFacts): Finding[] {
  if (!group || addresses.kind === 'failed') return [];
  const { name, addresses: ofGroup } = group;
  if (ofGroup.kind === 'failed') {
    return [
      error(
        `The process group ${name} has no answer (${ofGroup.code}).`,
        UNTRUSTED,
        'unset FLY_PROCESS_GROUP, or name a group that exists',
      ),
    ];
  }
  if (addresses.values.some((address) => ofGroup.values.includes(address))) return [];
  return [
    warning(
      `The process group ${name} does not list this Machine.`,
      UNTRUSTED,
      'FLY_PROCESS_GROUP as Fly.io sets it',
    ),
  ];
}

/** Both reject when there is no answer. */
export interface Names {
  txt(name: string): Promise<string[][]>;
  aaaa(name: string): Promise<string[]>;
}

/** A resolver has limits of its own; this is for one that does not keep them. */
const NAME_LIMIT_MS = 5_000;

export async function probeDns(
  app: string,
  { machine, processGroup }: Identity,
  resolver: Names,
  clock: Clock,
): Promise<DnsFacts> {
  const machines = (name: string): Promise<DnsListing<MachineId>> =>
    listing(clock, async () => parseMachinesTxt(await resolver.txt(name)).map(({ id }) => id));
  const addresses = (name: string): Promise<DnsListing<string>> =>
    addressesOf(name, resolver, clock);
  const [running, deployed, own, ofGroup] = await Promise.all([
    machines(runningMachinesName(app)),
    machines(deployedMachinesName(app)),
    addresses(machineName(app, machine)),
    processGroup === undefined ? undefined : addresses(processGroupName(app, processGroup)),
  ]);
  const group =
    processGroup !== undefined && ofGroup ? { name: processGroup, addresses: ofGroup } : undefined;
  return { app, self: machine, running, deployed, addresses: own, group };
}

function addressesOf(name: string, resolver: Names, clock: Clock): Promise<DnsListing<string>> {
  return listing(clock, async () =>
    (await resolver.aaaa(name)).flatMap((address) => normalizeAddress(address) ?? []),
  );
}

function listing<Value>(clock: Clock, read: () => Promise<Value[]>): Promise<DnsListing<Value>> {
  const look = async (): Promise<DnsListing<Value>> => {
    try {
      return { kind: 'answered', values: await read() };
    } catch (error) {
      return { kind: 'failed', code: errorCodeOf(error) };
    }
  };
  return withTimeout(clock, NAME_LIMIT_MS, look, { kind: 'failed', code: 'no answer in time' });
}

/** Of the running Machines of our process group, us left out. */
export async function peerEndpoints(
  { app, self, running, group }: DnsFacts,
  port: number,
  resolver: Names,
  clock: Clock,
): Promise<PeerEndpoint[]> {
  const others = running.kind === 'answered' ? running.values.filter((id) => id !== self) : [];
  const ofGroup = group?.addresses.kind === 'answered' ? group.addresses.values : undefined;
  const places = await Promise.all(
    others.map(async (machine) => {
      const found = await addressesOf(machineName(app, machine), resolver, clock);
      return { machine, address: found.kind === 'answered' ? found.values[0] : undefined, port };
    }),
  );
  // One without an address may be in the group.
  return places.filter(({ address }) => !ofGroup || !address || ofGroup.includes(address));
}
