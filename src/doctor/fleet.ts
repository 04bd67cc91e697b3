/**
 * Checks the fleet: whether Fly's private DNS lists this Machine and its peers, and whether their
 * sidecars respond with the expected Machine id.
 */
import type { Clock } from '../clock.ts';
import { ASK_PATH, formatAsk, parseResponse } from '../fleet/messages.ts';
import { clockOf, type ClockFacts } from './clock-offset.ts';
import { sendProbe, type ProbeResponse, errorCodeOf, withTimeout } from './probe.ts';
import type { MachineId } from '../session.ts';
import { error, note, ok, warning, type Finding } from './report.ts';
import type { Identity } from '../config/config.ts';
import { normalizeAddress } from '../fleet/addresses.ts';
import {
  deployedMachinesName,
  machineName,
  parseMachinesTxt,
  processGroupName,
  runningMachinesName,
} from '../fly.ts';

/** The result of looking up one name. */
type DnsListing<Value> =
  | { readonly kind: 'resolved'; readonly values: readonly Value[] }
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
  const findings = lists.flatMap(({ name, listing }) => checkListing(name, listing, self));
  if (findings.length > 0) return findings;
  const count = running.kind === 'resolved' ? running.values.length : 0;
  return [
    ok(`vms.${app}.internal and all.vms.${app}.internal list this Machine.`),
    ...checkCount(count),
    ...checkGroup(facts),
  ];
}

const UNTRUSTED =
  'Without a valid list of Machines, the sidecar queries no peer and treats no owner as gone.';

function checkListing(name: string, listing: DnsListing<MachineId>, self: MachineId): Finding[] {
  if (listing.kind === 'failed') {
    return [
      error(
        `The DNS lookup of ${name} failed (${listing.code}).`,
        UNTRUSTED,
        'unset FLEET_RESOLVER: on Fly.io the default fdaa::3 is right',
      ),
    ];
  }
  if (listing.values.includes(self)) return [];
  return [
    error(
      `${name} does not list this Machine (${self}).`,
      UNTRUSTED,
      'leave FLY_APP_NAME and FLY_MACHINE_ID as Fly.io sets them, and use the resolver of this organisation',
    ),
  ];
}

function checkCount(count: number): Finding[] {
  if (count > 1) return [ok(`${count} Machines are running.`)];
  return [note('No other Machine is running.', 'The peers were not checked.', 'fly scale count 2')];
}

function checkGroup({ group, addresses }: DnsFacts): Finding[] {
  if (!group || addresses.kind === 'failed') return [];
  const { name, addresses: ofGroup } = group;
  if (ofGroup.kind === 'failed') {
    return [
      error(
        `The DNS lookup of process group ${name} failed (${ofGroup.code}).`,
        UNTRUSTED,
        'unset FLY_PROCESS_GROUP, or set it to a group that exists',
      ),
    ];
  }
  if (addresses.values.some((address) => ofGroup.values.includes(address))) return [];
  return [
    warning(
      `The process group ${name} does not list this Machine.`,
      UNTRUSTED,
      'leave FLY_PROCESS_GROUP as Fly.io sets it',
    ),
  ];
}

/** Both reject when the lookup fails. */
interface DnsLookups {
  txt(name: string): Promise<string[][]>;
  aaaa(name: string): Promise<string[]>;
}

/** A second deadline, for a resolver that does not keep its own. */
const LOOKUP_TIMEOUT_MS = 5_000;

export async function probeDns(
  app: string,
  { machine, processGroup }: Identity,
  resolver: DnsLookups,
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

function addressesOf(
  name: string,
  resolver: DnsLookups,
  clock: Clock,
): Promise<DnsListing<string>> {
  return listing(clock, async () =>
    (await resolver.aaaa(name)).flatMap((address) => normalizeAddress(address) ?? []),
  );
}

function listing<Value>(clock: Clock, read: () => Promise<Value[]>): Promise<DnsListing<Value>> {
  const lookUp = async (): Promise<DnsListing<Value>> => {
    try {
      return { kind: 'resolved', values: await read() };
    } catch (error) {
      return { kind: 'failed', code: errorCodeOf(error) };
    }
  };
  return withTimeout(clock, LOOKUP_TIMEOUT_MS, lookUp, { kind: 'failed', code: 'timed out' });
}

/** The endpoints of the other running Machines in our process group. */
export async function peerEndpoints(
  { app, self, running, group }: DnsFacts,
  port: number,
  resolver: DnsLookups,
  clock: Clock,
): Promise<PeerEndpoint[]> {
  const others = running.kind === 'resolved' ? running.values.filter((id) => id !== self) : [];
  const ofGroup = group?.addresses.kind === 'resolved' ? group.addresses.values : undefined;
  const endpoints = await Promise.all(
    others.map(async (machine) => {
      const found = await addressesOf(machineName(app, machine), resolver, clock);
      return { machine, address: found.kind === 'resolved' ? found.values[0] : undefined, port };
    }),
  );
  // A Machine whose address is unknown may be in the group.
  return endpoints.filter(({ address }) => !ofGroup || !address || ofGroup.includes(address));
}

interface PeerFacts {
  readonly machine: MachineId;
  readonly port: number;
  readonly status: ProbedPeerStatus;
}

export type ProbedPeerStatus =
  | { readonly kind: 'no-address' }
  | { readonly kind: 'no-response'; readonly code: string }
  /** The sidecar returned 403: it does not know this Machine. */
  | { readonly kind: 'rejected' }
  /** Not a sidecar, or a sidecar with another protocol version. */
  | { readonly kind: 'not-a-sidecar'; readonly httpStatus: number }
  /** The sidecar of another Machine. */
  | { readonly kind: 'wrong-machine'; readonly machine: MachineId }
  | { readonly kind: 'sidecar' };

/** The most peers that the doctor probes; it probes all of them at once. */
export const MAX_PEERS = 50;

/** `skipped`: the number of Machines that were not probed. */
export function checkPeers(peers: readonly PeerFacts[], skipped = 0): Finding[] {
  const good = peers.filter(({ status }) => status.kind === 'sidecar');
  const findings = peers.flatMap(checkPeer);
  if (good.length > 0) {
    const machines = good.map(({ machine }) => machine).join(', ');
    findings.unshift(ok(`The sidecars of ${machines} respond.`));
  }
  if (skipped > 0) {
    findings.push(
      note(`${skipped} more Machines were not checked.`, `The doctor probes at most ${MAX_PEERS}.`),
    );
  }
  return findings;
}

const NOT_FOUND = 'This Machine cannot find sessions there whose ids carry no owner hint.';

function checkPeer({ machine, port, status }: PeerFacts): Finding[] {
  switch (status.kind) {
    case 'sidecar':
      return [];
    case 'no-address':
      return [
        warning(
          `${machine} has no address in DNS.`,
          `${NOT_FOUND} The Machine may be starting or stopping.`,
        ),
      ];
    case 'no-response':
      return [
        error(
          `${machine} does not respond on port ${port} (${status.code}).`,
          NOT_FOUND,
          'set HOST=:: and the same PEER_PORT on every Machine, and check that its sidecar runs',
        ),
      ];
    case 'rejected':
      return [
        error(
          `${machine} rejects requests from this Machine (403).`,
          'Its list of Machines does not contain this one, or has another address for it.',
          'set the same FLEET and FLEET_RESOLVER on every Machine, and run doctor on that one',
        ),
      ];
    case 'not-a-sidecar':
      return [
        error(
          `${machine} does not run a compatible sidecar on port ${port} (status ${status.httpStatus}).`,
          NOT_FOUND,
          'the same version on every Machine, and a PEER_PORT that no other program uses',
        ),
      ];
    case 'wrong-machine':
      return [
        error(
          `The sidecar at the address of ${machine} reports the id ${status.machine}.`,
          'A request for one Machine would reach another.',
          'leave FLY_MACHINE_ID as Fly.io sets it, and list each Machine once in FLEET',
        ),
      ];
  }
}

/** Where the sidecar of a Machine receives requests of its peers. */
export interface PeerEndpoint {
  readonly machine: MachineId;
  /** Undefined if it could not be resolved. */
  readonly address: string | undefined;
  readonly port: number;
}

interface ProbedPeers {
  readonly peers: readonly PeerFacts[];
  readonly clocks: readonly ClockFacts[];
}

export async function probePeers(
  endpoints: readonly PeerEndpoint[],
  self: MachineId,
  clock: Clock,
): Promise<ProbedPeers> {
  const body = formatAsk({ from: self, questions: [] });
  const probes = await Promise.all(
    endpoints.map(async ({ machine, address, port }) => {
      if (address === undefined) return { machine, port, status: { kind: 'no-address' } as const };
      const response = await sendProbe({ host: address, port, path: ASK_PATH, body }, clock);
      return { machine, port, status: statusFrom(response, machine), response };
    }),
  );
  return {
    peers: probes.map(({ machine, port, status }) => ({ machine, port, status })),
    clocks: probes.flatMap(({ machine, status, response }) =>
      response && status.kind === 'sidecar' ? clockOf(machine, response) : [],
    ),
  };
}

function statusFrom(response: ProbeResponse, machine: MachineId): ProbedPeerStatus {
  if (response.kind === 'failed') return { kind: 'no-response', code: response.code };
  const { status: httpStatus, body } = response;
  if (httpStatus === 403) return { kind: 'rejected' };
  const parsed = httpStatus === 200 ? parseResponse(body) : undefined;
  if (!parsed) return { kind: 'not-a-sidecar', httpStatus };
  return parsed.machine === machine
    ? { kind: 'sidecar' }
    : { kind: 'wrong-machine', machine: parsed.machine };
}
