/** What a proxy adds to one request when nothing else is going on: its median latency minus the app's own. */
import { SMALL_PATH } from './answers.ts';
import type { Bench } from './bench.ts';
import { openSessions, withCandidates, type Candidate } from './candidates.ts';
import { median } from './median.ts';
import { ratioOf, type Measurement } from './result.ts';
import { takeTurns, type Requests, type Turns } from './rounds.ts';

export const benchLatency: Bench = async ({ effort, load, workspace }) => {
  const requestsFor = async (candidate: Candidate): Promise<Requests> => ({
    method: 'GET',
    path: SMALL_PATH,
    bodyBytes: 0,
    connections: 1,
    sessionIds: await openSessions(candidate, 1),
    expects: { statusLine: 'HTTP/1.1 200 OK', text: 'content-length' },
  });
  const [direct, ...others] = await withCandidates(
    ['direct', 'floor', 'http-proxy', 'sidecar'],
    { workspace },
    (candidates) => takeTurns(candidates, requestsFor, load, effort),
  );
  const measurements = others.map((turns) => addedBy(turns, direct));
  return {
    title: 'Median latency added to a GET at one connection',
    unit: 'µs',
    perUnit: 'request',
    measurements,
    ratios: [ratioOf(measurements, 'sidecar', 'http-proxy', { atMost: 0.75 })],
  };
};

/** Round by round, as a slow spell of the machine slows both. */
function addedBy({ name, tallies }: Turns, direct: Turns | undefined): Measurement {
  const added = tallies.map((tally, round) => {
    const own = direct?.tallies[round]?.medianLatencyMicros ?? Number.NaN;
    return tally.medianLatencyMicros - own;
  });
  return { candidate: name, value: median(added), cpuMicros: undefined };
}
