/**
 * The cost of a lookup in a database on loopback: cold, compared with a plain round trip of its
 * client library, and hot.
 */
import { Pool } from 'pg';
import { createClient } from 'redis';
import type { SessionKey } from '../../src/session.ts';
import { systemClock, type Clock } from '../../src/clock.ts';
import { openPostgresStore } from '../../src/store/postgres/postgres.ts';
import { openRedisStore } from '../../src/store/redis/redis.ts';
import type { SessionStore } from '../../src/store/store.ts';
import type { Needed } from '../support/needed.ts';
import { neededForPostgres, startPostgresServer } from '../support/postgres-server.ts';
import { neededForRedis, startRedisServer } from '../support/redis-server.ts';
import type { Bench, Stage } from './bench.ts';
import { median } from './median.ts';
import { costRatioOf, type BenchResult } from './result.ts';
import { claim, LIMITS, performAll, storedKey } from './store-sessions.ts';
import { takeTurns, type Turn } from './store-turns.ts';
import { openWrapped } from './store-wrapped.ts';

const MICROS_PER_MS = 1_000;
const NAMESPACE = 'bench';
/** Concurrent claims while the database is filled. */
const AT_ONCE = 500;
const TURNS_PER_ROUND = 3;
/** Another Machine may have written by then, so no cached entry is used any more. */
const STALE_AFTER_MS = 1_000;

/** A running database, and how to open it. */
interface Remote {
  readonly kind: 'redis' | 'postgres';
  readonly open: (clock: Clock) => Promise<SessionStore>;
  /** Reads the key with one call of the client library. */
  readonly readBare: (key: SessionKey) => Promise<unknown>;
  readonly bareName: string;
}

/** Plain is `client.get` of a string as long as a binding. */
export const benchRedis: Bench = (stage) =>
  unlessMissing('Redis', neededForRedis, async (program) => {
    const { url } = await startRedisServer(stage, { program });
    const client = createClient({ url });
    client.on('error', () => undefined);
    stage.after(() => client.destroy());
    await client.connect();
    await client.set('bare', 'learned 1 1795203657533 1795207257533 e2865013d24908');
    return benchRemote(stage, 'Redis', {
      kind: 'redis',
      open: (clock) => openRedisStore({ url, namespace: NAMESPACE, clock, ...COMMON }),
      readBare: () => client.get('bare'),
      bareName: 'client.get',
    });
  });

/**
 * Plain is `pool.query` of the same row of the same table by its primary key, with bound values.
 */
export const benchPostgres: Bench = (stage) =>
  unlessMissing('Postgres', neededForPostgres, async (programs) => {
    const server = await startPostgresServer(stage, { programs });
    const url = server.url();
    const pool = new Pool({ connectionString: url });
    // A server that is killed ends it.
    pool.on('error', () => undefined);
    stage.after(() => pool.end());
    const select = `SELECT machine, origin, generation, created_at, expires_at
      FROM fly_affinity_sessions WHERE namespace = $1 AND key = $2`;
    return benchRemote(stage, 'Postgres', {
      kind: 'postgres',
      open: (clock) => openPostgresStore({ url, namespace: NAMESPACE, clock, ...COMMON }),
      readBare: async (key) => {
        const { rows } = await pool.query(select, [NAMESPACE, Buffer.from(key, 'hex')]);
        return rows[0] as unknown;
      },
      bareName: 'pool.query',
    });
  });

const COMMON = { limits: LIMITS, random: Math.random };

async function unlessMissing<Found>(
  name: string,
  { found, missing, howToGet }: Needed<Found>,
  bench: (found: Found) => Promise<BenchResult>,
): Promise<BenchResult> {
  if (found !== undefined) return bench(found);
  const title = `${name}: not measured, there is no ${missing}; get it with: ${howToGet}`;
  return { title, unit: '', perUnit: '', measurements: [], ratios: [] };
}

async function benchRemote(stage: Stage, name: string, remote: Remote): Promise<BenchResult> {
  const { effort } = stage;
  const { bareName } = remote;
  const { plain, wrapped, forget } = await openStores(stage, remote);
  const keys = Array.from({ length: effort.remoteLookups }, (_, number) => storedKey(number));
  await performAll(keys, AT_ONCE, (key) => claim(plain, key));
  const tripShares: number[] = [];
  const readBare = (atOnce: number) => () => readAll(keys, atOnce, remote.readBare);
  const readCold = (store: SessionStore, atOnce: number) => () => {
    forget();
    return readAll(keys, atOnce, async (key) => store.lookup(key));
  };
  const readHot = (store: SessionStore) => async () => {
    await readCold(store, effort.connections)();
    return readAtOnce(keys, store, tripShares);
  };
  const many = `${effort.connections} at once`;
  const measurements = await takeTurns(
    {
      [bareName]: readBare(1),
      cold: readCold(plain, 1),
      'cold, resilient': readCold(wrapped, 1),
      [`${bareName}, ${many}`]: readBare(effort.connections),
      [`cold, ${many}`]: readCold(plain, effort.connections),
      hot: readHot(plain),
      'hot, resilient': readHot(wrapped),
    },
    effort.rounds * TURNS_PER_ROUND,
  );
  wrapped.reportFailures();
  return {
    title: `Lookup in ${name} on loopback`,
    unit: 'µs',
    perUnit: 'lookup',
    measurements,
    ratios: [
      costRatioOf(measurements, 'cold', bareName, { atMost: 1.3 }),
      costRatioOf(measurements, 'cold, resilient', bareName, { atMost: 1.3 }),
      costRatioOf(measurements, `cold, ${many}`, `${bareName}, ${many}`),
      {
        name: 'round trips of a hot lookup',
        value: median(tripShares),
        byCpu: undefined,
        target: { atMost: 0 },
      },
    ],
  };
}

/**
 * The bare store, and the wrapped one that requests use; and a function that makes both read again
 * all that they have cached.
 */
async function openStores(stage: Stage, { kind, open }: Remote) {
  let leapMs = 0;
  const clock = { ...systemClock, now: () => Date.now() + leapMs };
  const plain = await open(clock);
  stage.after(() => plain.close());
  const wrapped = await openWrapped(kind, () => open(clock), { clock });
  stage.after(() => wrapped.close());
  return { plain, wrapped, forget: () => (leapMs += STALE_AFTER_MS) };
}

/** µs per read, by wall time and by CPU time of this process. */
async function readAll(
  keys: readonly SessionKey[],
  atOnce: number,
  read: (key: SessionKey) => Promise<unknown>,
): Promise<Turn> {
  const stop = startTimes();
  await performAll(keys, atOnce, async (key) => {
    const found = await read(key);
    if (found === 'absent' || found === 'unknown') throw new Error(`a session is ${found}`);
  });
  return stop(keys.length);
}

/** For the session keys just read. Records the share of them that needed a round trip. */
function readAtOnce(keys: readonly SessionKey[], store: SessionStore, tripShares: number[]): Turn {
  let trips = 0;
  const stop = startTimes();
  for (const key of keys) if (store.lookup(key) instanceof Promise) trips += 1;
  tripShares.push(trips / keys.length);
  return stop(keys.length);
}

function startTimes(): (count: number) => Turn {
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  return (count) => {
    const micros = (performance.now() - startedAt) * MICROS_PER_MS;
    const { user, system } = process.cpuUsage(cpuBefore);
    return { value: micros / count, cpuMicros: (user + system) / count };
  };
}
