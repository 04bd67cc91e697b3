/** Throughput: small and large responses, small and large requests. */
import { LARGE_BYTES, LARGE_PATH, SMALL_PATH } from './answers.ts';
import type { Bench, Stage } from './bench.ts';
import { openSessions, withCandidates, type Candidate, type CandidateName } from './candidates.ts';
import type { Tally } from './job.ts';
import { median } from './median.ts';
import {
  ratiosTo,
  type BenchResult,
  type Ratio,
  type Target,
  type TargetsByCandidate,
} from './result.ts';
import {
  measurementOf,
  requestsPerSecond,
  takeTurns,
  type Requests,
  type Turns,
} from './rounds.ts';
import { TARGETS } from './targets.ts';

/** `direct` shows the limit of the load generator. */
const NAMES: readonly CandidateName[] = ['direct', 'floor', 'http-proxy', 'nginx', 'sidecar'];
const OK = 'HTTP/1.1 200 OK';
const BODY_BYTES = 1_024;
const BYTES_PER_MB = 1_000_000;

export const benchGet: Bench = async (stage) => {
  const { connections } = stage.effort;
  const turns = await turnsOf(stage, { ...GET, path: SMALL_PATH, connections });
  const result = resultOf(turns, 'GET, response of 100 bytes', TARGETS.get, connections);
  const tails = turns
    .filter(({ name }) => name !== 'direct')
    .map((turn) => tailOf(turn, turn.name === 'sidecar' ? TARGETS.p99OverMedian : undefined));
  return { ...result, ratios: [...result.ratios, ...tails] };
};

export const benchPost: Bench = async (stage) => {
  const { connections } = stage.effort;
  const sent: Sent = { method: 'POST', bodyBytes: BODY_BYTES, path: SMALL_PATH, connections };
  const turns = await turnsOf(stage, sent);
  return resultOf(turns, 'POST of 1 KB, response of 100 bytes', TARGETS.post, connections);
};

export const benchLarge: Bench = async (stage) => {
  const connections = stage.effort.largeConnections;
  const turns = await turnsOf(stage, { ...GET, path: LARGE_PATH, connections });
  return megabytesResultOf(turns, 'GET, response of 1 MB', TARGETS.large, connections);
};

export const benchUpload: Bench = async (stage) => {
  const connections = stage.effort.largeConnections;
  const sent: Sent = { method: 'POST', bodyBytes: LARGE_BYTES, path: SMALL_PATH, connections };
  const turns = await turnsOf(stage, sent);
  return megabytesResultOf(
    turns,
    'POST of 1 MB, response of 100 bytes',
    TARGETS.upload,
    connections,
  );
};

type Sent = Pick<Requests, 'method' | 'bodyBytes' | 'path' | 'connections'>;

const GET = { method: 'GET', bodyBytes: 0 } as const;

/** Each connection has its own session, opened through the candidate. */
function turnsOf({ effort, load, workspace }: Stage, sent: Sent): Promise<Turns[]> {
  const requestsFor = async (candidate: Candidate): Promise<Requests> => ({
    kind: 'requests',
    ...sent,
    sessionIds: await openSessions(candidate, sent.connections),
    expects: { statusLine: OK, text: 'content-length' },
  });
  return withCandidates(NAMES, { workspace }, (candidates) =>
    takeTurns(candidates, requestsFor, load, effort),
  );
}

function resultOf(
  turns: readonly Turns[],
  title: string,
  targets: TargetsByCandidate,
  connections: number,
): BenchResult {
  const measurements = turns.map(requestsPerSecond);
  return {
    title: `${title}, ${connections} connections`,
    unit: 'requests/s',
    perUnit: 'request',
    measurements,
    ratios: ratiosTo(measurements, 'sidecar', targets),
  };
}

/** For bodies of {@link LARGE_BYTES}, in either direction. */
function megabytesResultOf(
  turns: readonly Turns[],
  title: string,
  targets: TargetsByCandidate,
  connections: number,
): BenchResult {
  const megabytes = ({ requests }: Tally): number => (requests * LARGE_BYTES) / BYTES_PER_MB;
  const measurements = turns.map((turn) =>
    measurementOf(turn, (tally) => megabytes(tally) / tally.seconds, megabytes),
  );
  return {
    title: `${title}, ${connections} connections`,
    unit: 'MB/s',
    perUnit: 'MB',
    measurements,
    ratios: ratiosTo(measurements, 'sidecar', targets),
  };
}

/** The latency at p99 over the median. */
function tailOf({ name, tallies }: Turns, target: Target | undefined): Ratio {
  const value = median(
    tallies.map(
      ({ p99LatencyMicros, medianLatencyMicros }) => p99LatencyMicros / medianLatencyMicros,
    ),
  );
  return { name: `${name}: latency p99 / p50`, value, byCpu: undefined, target };
}
