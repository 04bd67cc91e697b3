/** How much goes through: small answers, small requests, large answers. */
import { LARGE_PATH, SMALL_PATH } from './answers.ts';
import type { Bench, Stage } from './bench.ts';
import { openSessions, withCandidates, type Candidate, type CandidateName } from './candidates.ts';
import type { Tally } from './job.ts';
import { ratioOf, type BenchResult, type Measurement, type Ratio } from './result.ts';
import { measurementOf, takeTurns, type Requests } from './rounds.ts';

const NAMES: readonly CandidateName[] = ['floor', 'direct', 'http-proxy', 'sidecar'];
const OK = 'HTTP/1.1 200 OK';
const BODY_BYTES = 1_024;
const BYTES_PER_MB = 1_000_000;

const requestsPerSecond = ({ requests, seconds }: Tally): number => requests / seconds;
const megabytes = ({ bytes }: Tally): number => bytes / BYTES_PER_MB;

export const benchGet: Bench = async (stage) => {
  const measurements = await measureSmall(stage, { method: 'GET', bodyBytes: 0 });
  return small(stage, 'GET, answer of 100 bytes', measurements, [
    ratioOf(measurements, 'sidecar', 'http-proxy', { atLeast: 1.7 }),
    ratioOf(measurements, 'sidecar', 'floor', { atLeast: 0.45 }),
    ratioOf(measurements, 'http-proxy', 'floor'),
  ]);
};

export const benchPost: Bench = async (stage) => {
  const measurements = await measureSmall(stage, { method: 'POST', bodyBytes: BODY_BYTES });
  return small(stage, 'POST of 1 KB, answer of 100 bytes', measurements, [
    ratioOf(measurements, 'sidecar', 'http-proxy', { atLeast: 1.4 }),
    ratioOf(measurements, 'sidecar', 'floor'),
    ratioOf(measurements, 'http-proxy', 'floor'),
  ]);
};

export const benchLarge: Bench = async (stage) => {
  const connections = stage.effort.largeConnections;
  const turns = await turnsOf(stage, {
    method: 'GET',
    bodyBytes: 0,
    path: LARGE_PATH,
    connections,
  });
  const measurements = turns.map((turn) =>
    measurementOf(turn, (tally) => megabytes(tally) / tally.seconds, megabytes),
  );
  return {
    title: `GET, answer of 1 MB, ${connections} connections`,
    unit: 'MB/s',
    perUnit: 'MB',
    measurements,
    ratios: [
      ratioOf(measurements, 'sidecar', 'http-proxy', { atLeast: 1 }),
      ratioOf(measurements, 'sidecar', 'floor'),
    ],
  };
};

type Sent = Pick<Requests, 'method' | 'bodyBytes'>;

async function measureSmall(stage: Stage, sent: Sent): Promise<Measurement[]> {
  const { connections } = stage.effort;
  const turns = await turnsOf(stage, { ...sent, path: SMALL_PATH, connections });
  return turns.map((turn) => measurementOf(turn, requestsPerSecond, ({ requests }) => requests));
}

function small(
  { effort }: Stage,
  title: string,
  measurements: Measurement[],
  ratios: Ratio[],
): BenchResult {
  const connections = `${effort.connections} connections`;
  return {
    title: `${title}, ${connections}`,
    unit: 'requests/s',
    perUnit: 'request',
    measurements,
    ratios,
  };
}

/** Each connection has a session of its own, opened through the candidate. */
function turnsOf(
  { effort, load, workspace }: Stage,
  sent: Omit<Requests, 'sessionIds' | 'expects'>,
) {
  const requestsFor = async (candidate: Candidate): Promise<Requests> => ({
    ...sent,
    sessionIds: await openSessions(candidate, sent.connections),
    expects: { statusLine: OK, text: 'content-length' },
  });
  return withCandidates(NAMES, { workspace }, (candidates) =>
    takeTurns(candidates, requestsFor, load, effort),
  );
}
