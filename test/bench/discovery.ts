/**
 * What discovery costs, in CPU time: `auto` beside one listed preset, and responses that are inspected beside
 * the same ones that are not.
 */
import { SMALL_PATH } from './answers.ts';
import type { Bench, Stage } from './bench.ts';
import { openSessions, withSidecars, type Candidate } from './candidates.ts';
import {
  AT_ONCE,
  HEADER_STREAM_PATH,
  INSPECTED_JSON_PATH,
  OTHER_JSON_PATH,
  OTHER_STREAM_PATH,
  REVEALING_STREAM_PATH,
  SILENT_STREAM_PATH,
} from './discovery-answers.ts';
import type { Effort } from './effort.ts';
import type { Tally } from './job.ts';
import { median } from './median.ts';
import { ratioOf, type BenchResult, type Measurement, type Target } from './result.ts';
import { takeTurns, type Requests, type Turns } from './rounds.ts';
import { TARGETS } from './targets.ts';

type Named = Candidate<string>;

const LISTED = 'mcp';
const AUTO = 'auto';
const NOT_INSPECTED = 'not inspected';
/** The ratio of a candidate to its like shows how exact the other ratios are. */
const AGAIN = ', again';

const BODY_BYTES = 1_024;
const BYTES_PER_MB = 1_000_000;
/** One after the other, so that a turn has several whole ones. */
const STREAMS = 1;

const OK = { statusLine: 'HTTP/1.1 200 OK', text: 'content-length' };
const STREAM = { statusLine: 'HTTP/1.1 200 OK', text: 'text/event-stream' };
const GET = { kind: 'requests', method: 'GET', bodyBytes: 0, expects: OK, sessionIds: [] } as const;
const POST = { ...GET, method: 'POST' } as const;

const STREAM_POST = { ...POST, connections: STREAMS, expects: STREAM };

/** As a browser sends them to a page of a site with analytics and a login. */
const BROWSER_HEADERS = [
  'connection: keep-alive',
  'sec-ch-ua: "Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99"',
  'sec-ch-ua-mobile: ?0',
  'sec-ch-ua-platform: "Linux"',
  'user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36',
  'accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8',
  'sec-fetch-site: same-origin',
  'sec-fetch-mode: navigate',
  'sec-fetch-dest: document',
  'referer: https://app.example/projects?tab=all',
  'accept-encoding: gzip, deflate, br, zstd',
  'accept-language: en-GB,en;q=0.9,de;q=0.8',
  'cookie: _ga=GA1.1.1032415927.1763424000; theme=dark; auth=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl',
];
const BROWSER_QUERY = '?tab=recent&page=2&sort=-updated&q=session+affinity';

const benchAutoWithId: Bench = (stage) => {
  const { connections } = stage.effort;
  return compareSettings(stage, 'a GET with an mcp-session-id', async (candidate) => ({
    ...{ ...GET, path: SMALL_PATH, connections },
    sessionIds: await openSessions(candidate, connections),
  }));
};

const benchAutoWithoutId: Bench = (stage) => {
  const { connections } = stage.effort;
  const path = `${SMALL_PATH}${BROWSER_QUERY}`;
  const requests = { ...GET, path, connections, headers: BROWSER_HEADERS };
  return compareSettings(stage, "a browser's GET without an id", () => Promise.resolve(requests));
};

const benchAutoPost: Bench = (stage) => {
  const { connections } = stage.effort;
  const requests = { ...POST, path: SMALL_PATH, bodyBytes: BODY_BYTES, connections };
  return compareSettings(stage, 'a JSON POST of 1 KB without an id', () =>
    Promise.resolve(requests),
  );
};

const benchInspectedJson: Bench = (stage) => {
  const requests = { ...POST, connections: stage.effort.largeConnections };
  const paths = {
    [NOT_INSPECTED]: OTHER_JSON_PATH,
    inspected: INSPECTED_JSON_PATH,
    [`${NOT_INSPECTED}${AGAIN}`]: OTHER_JSON_PATH,
  };
  return comparePaths(stage, 'JSON response of 1 MB to a POST', requests, paths);
};

const benchInspectedStream: Bench = (stage) =>
  compareStreams(stage, '10,000 SSE messages, a message at a time', '');

const benchInspectedStreamAtOnce: Bench = (stage) =>
  compareStreams(stage, '10,000 SSE messages at once', AT_ONCE);

/** A new session costs a write to the store, wherever its id is. */
const benchRevealingStream: Bench = (stage) => {
  const inHeader = `${HEADER_STREAM_PATH}${AT_ONCE}`;
  return comparePaths(stage, '10,000 SSE messages at once, a new session each time', STREAM_POST, {
    'id in a header': inHeader,
    'id in the first message': `${REVEALING_STREAM_PATH}${AT_ONCE}`,
    [`id in a header${AGAIN}`]: inHeader,
  });
};

export const DISCOVERY_BENCHES: Readonly<Record<string, readonly Bench[]>> = {
  'discovery-auto': [benchAutoWithId, benchAutoWithoutId, benchAutoPost],
  'discovery-json': [benchInspectedJson],
  'discovery-streams': [benchInspectedStream, benchInspectedStreamAtOnce, benchRevealingStream],
};

function compareStreams(stage: Stage, title: string, query: string): Promise<BenchResult> {
  const paths = {
    [NOT_INSPECTED]: `${OTHER_STREAM_PATH}${query}`,
    'inspected, the first has the id': `${REVEALING_STREAM_PATH}${query}`,
    'inspected, no id': `${SILENT_STREAM_PATH}${query}`,
    [`${NOT_INSPECTED}${AGAIN}`]: `${OTHER_STREAM_PATH}${query}`,
  };
  return comparePaths(stage, title, STREAM_POST, paths);
}

/** Sidecars that differ in `SESSION_PROTOCOLS`. */
async function compareSettings(
  stage: Stage,
  title: string,
  requestsFor: (candidate: Named) => Promise<Requests>,
): Promise<BenchResult> {
  const { workspace, load } = stage;
  const settings = { [LISTED]: LISTED, [AUTO]: AUTO, [`${LISTED}${AGAIN}`]: LISTED };
  const names = Object.keys(settings);
  const each = Object.values(settings).map((protocols) => ({
    workspace,
    sidecarEnv: { SESSION_PROTOCOLS: protocols },
  }));
  const turns = await inEachLaunch(stage, (effort) =>
    withSidecars(each, (sidecars) => {
      const named = sidecars.map((sidecar, i) => ({ ...sidecar, name: names[i] ?? '' }));
      return takeTurns(named, requestsFor, load, effort);
    }),
  );
  const costs = turns.map((turn) => costOf(turn, ({ requests }) => requests));
  return resultOf(`${AUTO} beside ${LISTED}: ${title}`, 'request', costs, TARGETS.discovery);
}

/** Requests to one sidecar that differ in their path, by name. Streams may last longer than a turn. */
async function comparePaths(
  stage: Stage,
  title: string,
  requests: Omit<Requests, 'path'>,
  paths: Readonly<Record<string, string>>,
): Promise<BenchResult> {
  const { workspace, load } = stage;
  const turns = await inEachLaunch(stage, (effort) =>
    withSidecars([{ workspace, sidecarEnv: { SESSION_PROTOCOLS: AUTO } }], ([sidecar]) => {
      if (!sidecar) throw new Error('no sidecar');
      const named = Object.keys(paths).map((name) => ({ ...sidecar, name }));
      const requestsFor = ({ name }: Named): Promise<Requests> =>
        Promise.resolve({ ...requests, path: paths[name] ?? '' });
      return takeTurns(named, requestsFor, load, effort);
    }),
  );
  const costs = turns.map((turn) => costOf(turn, ({ bytes }) => bytes / BYTES_PER_MB));
  return resultOf(`Inspected by auto: ${title}`, 'MB', costs, TARGETS.discovery);
}

/** Two processes of one kind differ by a few percent, by what V8 has optimized in each. */
async function inEachLaunch(
  { effort }: Stage,
  launch: (effort: Effort) => Promise<readonly Turns[]>,
): Promise<Turns[]> {
  const { launches, ...short } = effort.paired;
  const tallies = new Map<string, readonly Tally[]>();
  for (let i = 0; i < launches; i += 1) {
    for (const turns of await launch({ ...effort, ...short }))
      tallies.set(turns.name, [...(tallies.get(turns.name) ?? []), ...turns.tallies]);
  }
  return [...tallies].map(([name, tallies]) => ({ name, tallies }));
}

/** In µs; NaN where the system does not report it. */
function costOf({ name, tallies }: Turns, unitsOf: (tally: Tally) => number): Measurement {
  const turns = tallies.map((tally) => (tally.cpuMicros ?? Number.NaN) / unitsOf(tally));
  return { candidate: name, value: median(turns), turns, cpuMicros: undefined };
}

/** The ratios of all others to the first. */
function resultOf(
  title: string,
  perUnit: string,
  measurements: readonly Measurement[],
  target: Target,
): BenchResult {
  const [first, ...others] = measurements.map(({ candidate }) => candidate);
  const ratios = others.map((name) =>
    ratioOf(measurements, name, first ?? '', name.endsWith(AGAIN) ? undefined : target),
  );
  return { title, unit: `µs of CPU time per ${perUnit}`, perUnit, measurements, ratios };
}
