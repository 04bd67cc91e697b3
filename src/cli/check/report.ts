/** What a check has found, counted. With `--json` it is printed as it is. */
import type { CheckedCall, CheckedSessions, Recipient } from './sessions.ts';
import type { Exchange } from '../../probe/http-client.ts';
import type { Detection } from '../../probe/detect.ts';
import { describeExchange, whyNotOpened } from '../../probe/loss.ts';
import type { Loss } from '../../probe/probe.ts';
import type { MachineId } from '../../session.ts';

/**
 * `kept`: every call found its session. `lost`: a call did not. `failed`: no session was lost, but a request failed,
 * or no session was opened. `stateless`: the app keeps no session. `unreachable`: it did not respond at all.
 */
type Verdict = 'kept' | 'lost' | 'failed' | 'stateless' | 'unreachable';

export interface CheckReport {
  readonly url: string;
  readonly verdict: Verdict;
  /** Its preset; null if it is not known. */
  readonly protocol: string | null;
  /** Where sessions are opened, such as `POST /mcp`; null if that is not known. */
  readonly where: string | null;
  /** Why no session was opened. */
  readonly problems: readonly string[];
  readonly sessions: { readonly opened: number; readonly refused: number; readonly lost: number };
  readonly calls: { readonly made: number; readonly lost: number; readonly failed: number };
  /** How clients are told, the most frequent first. */
  readonly told: readonly Told[];
  readonly latency: readonly Latency[];
  /** The difference of the medians of calls to another Machine and to the session's own; null if not known. */
  readonly hopMs: number | null;
  /** The Machines of the sessions, as the sidecar's owner hints name them. */
  readonly machines: readonly MachineId[];
  /** Time, or a signal, ended the check early. */
  readonly isCutShort: boolean;
}

export interface Told extends Loss {
  readonly isLost: boolean;
  readonly count: number;
}

/** Of calls that found their session: from connecting to the head of the response. */
interface Latency {
  /** Where Fly Proxy was asked to send the call: nowhere, to the session's own Machine, to another one. */
  readonly sentTo: Recipient;
  readonly calls: number;
  readonly lost: number;
  readonly medianMs: number | null;
  readonly worstMs: number | null;
}

const NOTHING_SENT = {
  sessions: { opened: 0, refused: 0, lost: 0 },
  calls: { made: 0, lost: 0, failed: 0 },
  ...{ told: [], latency: [], hopMs: null, machines: [], isCutShort: false },
} as const;

export function reportUnreachable(
  url: string,
  exchange: Exchange,
  isCutShort: boolean,
): CheckReport {
  const problems = [`GET /: ${describeExchange(exchange)}`];
  const nothing = { ...NOTHING_SENT, url, isCutShort };
  return { ...nothing, verdict: 'unreachable', protocol: null, where: null, problems };
}

/** No session could be opened to begin with. */
export function reportDetection(
  url: string,
  detection: Exclude<Detection, { readonly kind: 'found' }>,
  isCutShort: boolean,
): CheckReport {
  const nothing = { ...NOTHING_SENT, url, isCutShort };
  if (detection.kind === 'unknown') {
    const { attempts, webSocketAt } = detection;
    const problems = [
      ...attempts.map(({ where, result }) => `${where}: ${result}`),
      ...(webSocketAt === undefined
        ? []
        : [`GET ${webSocketAt} (WebSocket): accepted, and a WebSocket stays on its Machine`]),
    ];
    return { ...nothing, verdict: 'failed', protocol: null, where: null, problems };
  }
  const { kind, probe, why } = detection;
  const verdict = kind === 'stateless' ? 'stateless' : 'failed';
  const protocol = probe.preset ?? null;
  return { ...nothing, verdict, protocol, where: probe.where, problems: [why] };
}

export function reportSessions(
  url: string,
  { preset, where }: { readonly preset: string | undefined; readonly where: string },
  { openings, calls, owners, isCutShort }: CheckedSessions,
): CheckReport {
  const lost = calls.filter(isLost);
  const failed = calls.filter((call) => call.loss && !isLost(call));
  const refused = openings.filter((opening) => opening.kind !== 'opened');
  const latency = RECIPIENTS.map((sentTo) => latencyOf(sentTo, calls)).filter(
    (row) => row.calls > 0,
  );
  const isProven = calls.length > failed.length;
  const hasFailed = failed.length + refused.length > 0 || !isProven;
  return {
    ...{ url, protocol: preset ?? null, where, latency, isCutShort },
    verdict: lost.length > 0 ? 'lost' : hasFailed ? 'failed' : 'kept',
    problems: [...new Set(refused.map(whyNotOpened))],
    sessions: {
      opened: openings.length - refused.length,
      refused: refused.length,
      lost: new Set(lost.map(({ session }) => session)).size,
    },
    calls: { made: calls.length, lost: lost.length, failed: failed.length },
    told: toldOf(calls),
    hopMs: hopOf(latency),
    machines: owners,
  };
}

/** Of another Machine's app. An app that has too many requests, or does not respond, says nothing of the session. */
function isLost({ loss, exchange }: CheckedCall): boolean {
  if (!loss || loss.how === 'unavailable' || loss.how === 'no-response') return false;
  return exchange.kind === 'response' && exchange.status !== TOO_MANY_REQUESTS;
}

const TOO_MANY_REQUESTS = 429;

function toldOf(calls: readonly CheckedCall[]): Told[] {
  const told = new Map<string, Told>();
  for (const call of calls) {
    if (!call.loss) continue;
    const name = `${call.loss.how} ${call.loss.why}`;
    const count = (told.get(name)?.count ?? 0) + 1;
    told.set(name, { ...call.loss, isLost: isLost(call), count });
  }
  return [...told.values()].sort((one, other) => other.count - one.count);
}

const RECIPIENTS: readonly Recipient[] = ['any', 'own', 'other'];

function latencyOf(sentTo: Recipient, all: readonly CheckedCall[]): Latency {
  const calls = all.filter(({ recipient }) => recipient === sentTo);
  const times = calls
    .filter(({ loss }) => !loss)
    .map(({ exchange }) => exchange.ms)
    .sort((one, other) => one - other);
  return {
    sentTo,
    calls: calls.length,
    lost: calls.filter(isLost).length,
    medianMs: rounded(medianOf(times)),
    worstMs: rounded(times.at(-1)),
  };
}

function medianOf(sorted: readonly number[]): number | undefined {
  const half = sorted.length / 2;
  const [low, high] = [sorted[Math.ceil(half) - 1], sorted[Math.floor(half)]];
  return low === undefined || high === undefined ? undefined : (low + high) / 2;
}

function rounded(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.round(ms * 10) / 10;
}

function hopOf(latency: readonly Latency[]): number | null {
  const [own, other] = (['own', 'other'] as const).map(
    (recipient) => latency.find(({ sentTo }) => sentTo === recipient)?.medianMs ?? undefined,
  );
  return own === undefined || other === undefined ? null : rounded(other - own);
}
