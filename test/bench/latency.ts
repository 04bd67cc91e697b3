/**
 * The latency that a proxy adds to one request without other load: its median latency minus the
 * app's own.
 */
import { SMALL_PATH } from './answers.ts';
import type { Bench } from './bench.ts';
import { openSessions, withCandidates, type Candidate, type CandidateName } from './candidates.ts';
import { median } from './median.ts';
import { ratiosTo, type Measurement, type Ratio } from './result.ts';
import { takeTurns, type Requests, type Turns } from './rounds.ts';
import { TARGETS } from './targets.ts';

const NAMES: readonly CandidateName[] = ['direct', 'floor', 'http-proxy', 'nginx', 'sidecar'];

export const benchLatency: Bench = async ({ effort, load, workspace }) => {
  const requestsFor = async (candidate: Candidate): Promise<Requests> => ({
    kind: 'requests',
    method: 'GET',
    path: SMALL_PATH,
    bodyBytes: 0,
    connections: 1,
    sessionIds: await openSessions(candidate, 1),
    expects: { statusLine: 'HTTP/1.1 200 OK', text: 'content-length' },
  });
  const [direct, ...others] = await withCandidates(NAMES, { workspace }, (candidates) =>
    takeTurns(candidates, requestsFor, load, effort),
  );
  const measurements = others.map((turns) => addedBy(turns, direct));
  return {
    title: 'Median latency added to a GET at one connection',
    unit: 'µs',
    perUnit: 'request',
    measurements,
    ratios: [
      ...moreThanNginx(measurements),
      ...ratiosTo(measurements, 'sidecar', { 'http-proxy': TARGETS.addedLatencyOverHttpProxy }),
    ],
  };
};

/** Round by round, as a slow phase of the machine slows both. */
function addedBy({ name, tallies }: Turns, direct: Turns | undefined): Measurement {
  const turns = differences(
    tallies.map(({ medianLatencyMicros }) => medianLatencyMicros),
    direct?.tallies.map(({ medianLatencyMicros }) => medianLatencyMicros),
  );
  return { candidate: name, value: median(turns), turns, cpuMicros: undefined };
}

/** Nothing where nginx is not installed. */
function moreThanNginx(measurements: readonly Measurement[]): Ratio[] {
  const turnsOf = (name: CandidateName): readonly number[] | undefined =>
    measurements.find(({ candidate }) => candidate === name)?.turns;
  const nginx = turnsOf('nginx');
  if (!nginx) return [];
  const value = median(differences(turnsOf('sidecar') ?? [], nginx));
  const target = TARGETS.microsMoreThanNginx;
  return [{ name: 'µs more than nginx', value, byCpu: undefined, target }];
}

function differences(values: readonly number[], from: readonly number[] = []): number[] {
  return values.map((value, turn) => value - (from[turn] ?? Number.NaN));
}
