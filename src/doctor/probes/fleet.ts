/** Looks for the other Machines, as a sidecar would, and asks each of them an empty question. */
import type { MachineId } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import type { Identity } from '../../config/config.ts';
import { normalizeAddress } from '../../fleet/addresses.ts';
import { ASK_PATH, formatAsk, parseResponse } from '../../fleet/messages.ts';
import {
  deployedMachinesName,
  machineName,
  parseMachinesTxt,
  processGroupName,
  runningMachinesName,
} from '../../fly.ts';
import { compareClock, type ClockFacts } from '../clock-offset.ts';
import type { DnsFacts, DnsListing } from '../dns.ts';
import type { PeerAnswer, PeerFacts } from '../peers.ts';
import { ask, type HttpAnswer } from './http.ts';
import { errorCodeOf, withTimeout } from './within.ts';

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

/** Where a Machine's sidecar is to be asked. */
export interface PeerEndpoint {
  readonly machine: MachineId;
  /** Undefined: there is none. */
  readonly address: string | undefined;
  readonly port: number;
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

export interface PeersLook {
  readonly peers: readonly PeerFacts[];
  readonly clocks: readonly ClockFacts[];
}

export async function probePeers(
  places: readonly PeerEndpoint[],
  self: MachineId,
  clock: Clock,
): Promise<PeersLook> {
  const body = formatAsk({ from: self, questions: [] });
  const looks = await Promise.all(
    places.map(async ({ machine, address, port }) => {
      if (address === undefined) return { machine, port, answer: { kind: 'no-address' } as const };
      const heard = await ask({ host: address, port, path: ASK_PATH, body }, clock);
      return { machine, port, answer: answerIn(heard, machine), heard };
    }),
  );
  return {
    peers: looks.map(({ machine, port, answer }) => ({ machine, port, answer })),
    clocks: looks.flatMap(({ machine, answer, heard }) =>
      heard && answer.kind === 'sidecar' ? clockIn(machine, heard) : [],
    ),
  };
}

function answerIn(heard: HttpAnswer, machine: MachineId): PeerAnswer {
  if (heard.kind === 'failed') return { kind: 'silent', code: heard.code };
  if (heard.status === 403) return { kind: 'refused' };
  const answer = heard.status === 200 ? parseResponse(heard.body) : undefined;
  if (!answer) return { kind: 'stranger', status: heard.status };
  return answer.machine === machine
    ? { kind: 'sidecar' }
    : { kind: 'other', machine: answer.machine };
}

/** A `Date` field has no fractions. */
const DATE_PRECISION_MS = 1_000;

function clockIn(machine: MachineId, heard: HttpAnswer): ClockFacts[] {
  if (heard.kind === 'failed' || heard.dateMs === undefined) return [];
  return [compareClock(machine, heard.dateMs, DATE_PRECISION_MS, heard)];
}
