/**
 * Requests per second of whole sidecars whose store has failed, compared with the same sidecars and
 * a working store: a Redis server that was killed, and a SQLite file that another process keeps
 * locked.
 */
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { neededForRedis, startRedisServer, type RedisServer } from '../support/redis-server.ts';
import { OPEN_PATH, SMALL_PATH } from './answers.ts';
import type { Bench, Stage } from './bench.ts';
import { openSessions, withSidecars, type Candidate, type Surroundings } from './candidates.ts';
import { ratioOf, type Measurement, type Ratio, type Target } from './result.ts';
import { requestsPerSecond, takeTurns, type Requests } from './rounds.ts';

/** The separate store of one sidecar. */
interface Backing {
  readonly candidate: string;
  readonly sidecarEnv: NodeJS.ProcessEnv;
  /** Called once the sidecar has the sessions that the requests will use. */
  readonly breakDown?: () => unknown;
}

type Pair = readonly [healthy: Backing, dead: Backing];

/** Short enough for touches, which fail too. */
const TTL_MS = 60_000;

/**
 * Requests in existing sessions, one for each connection; and requests that open a new session
 * each.
 */
export const benchDeadStore: Bench = async (stage) => {
  const { connections } = stage.effort;
  const pairs = [...(await startRedisPair(stage)), createSqlitePair(stage)];
  const measurements = await measureAll(stage, pairs.flat());
  const ratioOfPair = ([healthy, dead]: Pair, target?: Target, suffix = ''): Ratio =>
    ratioOf(measurements, dead.candidate + suffix, healthy.candidate + suffix, target);
  return {
    title: `GET with a store that works, and with one that does not, ${connections} connections`,
    unit: 'requests/s',
    perUnit: 'request',
    measurements,
    ratios: [
      ...pairs.map((pair) => ratioOfPair(pair, { atLeast: 0.9 })),
      ...pairs.map((pair) => ratioOfPair(pair, undefined, NEW)),
    ],
  };
};

const NEW = ': new';

/** None without a server. */
async function startRedisPair(stage: Stage): Promise<Pair[]> {
  const { found: program, missing, howToGet } = neededForRedis;
  if (program === undefined) {
    console.error(`\nNot measured with Redis, there is no ${missing}; get it with: ${howToGet}`);
    return [];
  }
  const [healthy, dead] = [
    await startRedisServer(stage, { program }),
    await startRedisServer(stage, { program }),
  ];
  const envOf = ({ url }: RedisServer): NodeJS.ProcessEnv => ({
    SESSION_STORE_URL: url,
    SESSION_STORE_NAMESPACE: 'bench',
  });
  return [
    [
      { candidate: 'Redis', sidecarEnv: envOf(healthy) },
      { candidate: 'Redis, killed', sidecarEnv: envOf(dead), breakDown: () => dead.kill() },
    ],
  ];
}

function createSqlitePair(stage: Stage): Pair {
  const envOf = (name: string): { SESSION_STORE_PATH: string } => ({
    SESSION_STORE_PATH: join(stage.workspace.directory, `store-${name}.sqlite`),
  });
  const locked = envOf('locked');
  const breakDown = (): void => {
    const db = new Database(locked.SESSION_STORE_PATH);
    stage.after(() => db.close());
    db.exec('BEGIN IMMEDIATE');
  };
  return [
    { candidate: 'SQLite', sidecarEnv: envOf('healthy') },
    { candidate: 'SQLite, locked', sidecarEnv: locked, breakDown },
  ];
}

async function measureAll(stage: Stage, backings: readonly Backing[]): Promise<Measurement[]> {
  const { effort, load, workspace } = stage;
  const each: Surroundings[] = backings.map(({ sidecarEnv }) => ({
    workspace,
    sidecarEnv: { ...sidecarEnv, SESSION_STORE_TTL_MS: String(TTL_MS) },
  }));
  return withSidecars(each, async (sidecars) => {
    const sessions = new Map<Candidate, readonly string[]>();
    for (const [index, sidecar] of sidecars.entries()) {
      sessions.set(sidecar, await openSessions(sidecar, effort.connections));
      await backings[index]?.breakDown?.();
      // The first write that fails must wait until the failure is detected.
      await openSessions(sidecar, 1);
    }
    const measure = async (path: string, suffix: string): Promise<Measurement[]> => {
      const requestsFor = (sidecar: Candidate): Promise<Requests> =>
        Promise.resolve({
          kind: 'requests',
          ...{ method: 'GET', path, bodyBytes: 0, connections: effort.connections },
          sessionIds: sessions.get(sidecar) ?? [],
          expects: { statusLine: 'HTTP/1.1 200 OK', text: 'content-length' },
        });
      const turns = await takeTurns(sidecars, requestsFor, load, effort);
      return turns.map((turn, index) => ({
        ...requestsPerSecond(turn),
        candidate: (backings[index]?.candidate ?? '') + suffix,
      }));
    };
    return [...(await measure(SMALL_PATH, '')), ...(await measure(OPEN_PATH, NEW))];
  });
}
