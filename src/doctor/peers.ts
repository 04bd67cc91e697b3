/** The other Machines: whether their sidecars can be asked, and agree who they are. */
import type { Clock } from '../clock.ts';
import { ASK_PATH, formatAsk, parseResponse } from '../fleet/messages.ts';
import { compareClock, type ClockFacts } from './clock-offset.ts';
import { ask, type HttpAnswer } from './probe.ts';
import type { MachineId } from '../session.ts';
import { error, note, ok, warning, type Finding } from './report.ts';

export interface PeerFacts {
  readonly machine: MachineId;
  readonly port: number;
  readonly answer: PeerAnswer;
}

export type PeerAnswer =
  | { readonly kind: 'no-address' }
  | { readonly kind: 'silent'; readonly code: string }
  | { readonly kind: 'refused' }
  /** What answers is no sidecar, or one that speaks another language. */
  | { readonly kind: 'stranger'; readonly status: number }
  /** A sidecar, but of another Machine. */
  | { readonly kind: 'other'; readonly machine: MachineId }
  | { readonly kind: 'sidecar' };

/** `leftOut`: how many there are beyond those that were asked. */
export function checkPeers(peers: readonly PeerFacts[], leftOut = 0): Finding[] {
  const good = peers.filter(({ answer }) => answer.kind === 'sidecar');
  const bad = peers.flatMap(checkPeer);
  const greeting =
    good.length === 0
      ? []
      : [ok(`The sidecars of ${good.map(({ machine }) => machine).join(', ')} answer.`)];
  const rest =
    leftOut === 0 ? [] : [note(`${leftOut} more Machines were not asked.`, 'These were enough.')];
  return [...greeting, ...bad, ...rest];
}

const UNKNOWN = 'Sessions of that Machine whose ids carry no hint can not be found from here.';

function checkPeer({ machine, port, answer }: PeerFacts): Finding[] {
  switch (answer.kind) {
    case 'sidecar':
      return [];
    case 'no-address':
      return [
        warning(`${machine} has no address.`, `${UNKNOWN} It may just be starting or stopping.`),
      ];
    case 'silent':
      return [
        error(
          `${machine} does not answer on port ${port} (${answer.code}).`,
          UNKNOWN,
          'HOST=:: and the same PEER_PORT on every Machine; does its sidecar run?',
        ),
      ];
    case 'refused':
      return [
        error(
          `${machine} refuses this Machine (403).`,
          'Its own list of Machines lacks this one, or has it at another address.',
          'the same FLEET and FLEET_RESOLVER on every Machine, and doctor on that one',
        ),
      ];
    case 'stranger':
      return [
        error(
          `What answers at ${machine} on port ${port} is no sidecar of this version (${answer.status}).`,
          UNKNOWN,
          'a PEER_PORT that nothing else listens on',
        ),
      ];
    case 'other':
      return [
        error(
          `The sidecar at the address of ${machine} says that it is ${answer.machine}.`,
          'A request for one Machine would be served by another.',
          'FLY_MACHINE_ID as Fly.io sets it, and no Machine twice in FLEET',
        ),
      ];
  }
}

/** Where a Machine's sidecar is to be asked. */
export interface PeerEndpoint {
  readonly machine: MachineId;
  /** Undefined: there is none. */
  readonly address: string | undefined;
  readonly port: number;
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
