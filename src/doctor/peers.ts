/** Checks the other Machines: whether their sidecars respond, and with the expected Machine id. */
import type { Clock } from '../clock.ts';
import { ASK_PATH, formatAsk, parseResponse } from '../fleet/messages.ts';
import { compareClock, type ClockFacts } from './clock-offset.ts';
import { sendProbe, type ProbeResponse } from './probe.ts';
import type { MachineId } from '../session.ts';
import { error, note, ok, warning, type Finding } from './report.ts';

export interface PeerFacts {
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

const NOT_FOUND = 'This Machine can not find sessions there whose ids carry no owner hint.';

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

export interface ProbedPeers {
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
      response && status.kind === 'sidecar' ? clockFrom(machine, response) : [],
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

/** A `Date` field has no fractions. */
const DATE_PRECISION_MS = 1_000;

function clockFrom(machine: MachineId, response: ProbeResponse): ClockFacts[] {
  if (response.kind === 'failed' || response.dateMs === undefined) return [];
  return [compareClock(machine, response.dateMs, DATE_PRECISION_MS, response)];
}
