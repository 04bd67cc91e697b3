/** Fly's private DNS: whether this Machine finds its fleet, and itself in it. */
import type { MachineId } from '../session.ts';
import { error, note, ok, warning, type Finding } from './finding.ts';

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
