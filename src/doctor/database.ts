/**
 * Checks the shared database: version, schema, privileges, clock and speed. Writes nothing and loads no
 * script. Imports a client library only when it is used, as the store does.
 */
import type { Clock } from '../clock.ts';
import type { StoreUrl } from '../config/parsers.ts';
import { errorCodeOf, withTimeout } from './probe.ts';
import { type Finding, error, ok, warning } from './report.ts';
import { StoreError } from '../store/store.ts';
import { compareClock, type ClockFacts } from './clock-offset.ts';
import type { PostgresPool } from '../store/postgres/pool.ts';
import { POSTGRES_SCHEMA_VERSION } from '../store/postgres/schema.ts';
import type { RedisLink } from '../store/redis/link.ts';

type DatabaseFacts =
  | { readonly kind: 'unusable'; readonly reason: string }
  | {
      readonly kind: 'usable';
      readonly roundTripMs: number;
      readonly problems: readonly DatabaseProblem[];
    };

/** What the probe found, and the clock of the database for comparison. */
interface ProbedDatabase {
  readonly facts: DatabaseFacts;
  readonly clocks: readonly ClockFacts[];
}

export type DatabaseProblem =
  | { readonly kind: 'old-version'; readonly version: string; readonly oldest: string }
  | { readonly kind: 'read-only' }
  | { readonly kind: 'evicts'; readonly policy: string }
  | { readonly kind: 'may-not-create' }
  | { readonly kind: 'newer-schema'; readonly version: number };

const SLOW_MS = 250;

/** `name`: without credentials. */
export function checkDatabase(name: string, facts: DatabaseFacts): Finding[] {
  if (facts.kind === 'unusable') {
    return [
      error(
        `The sidecar cannot use ${name}: ${facts.reason}.`,
        'It keeps session records in memory, and queries the other Machines for every session that it does not know.',
        'start the database, or correct SESSION_STORE_URL',
      ),
    ];
  }
  const { roundTripMs, problems } = facts;
  const latency = `${name} responds in ${Math.round(roundTripMs)} ms.`;
  const speed =
    roundTripMs <= SLOW_MS
      ? ok(latency)
      : warning(
          latency,
          'The first request of a session waits that long if this Machine does not know the session.',
          'a database in the region of the Machines',
        );
  return [speed, ...problems.map((problem) => problemFinding(name, problem))];
}

function problemFinding(name: string, problem: DatabaseProblem): Finding {
  switch (problem.kind) {
    case 'old-version':
      return error(
        `${name} has version ${problem.version}.`,
        `The store needs version ${problem.oldest} or newer.`,
        `upgrade to ${problem.oldest} or newer`,
      );
    case 'read-only':
      return error(
        `${name} is read-only.`,
        'It is a replica, or configured read-only: new sessions stay in memory and never reach it.',
        'the address of the primary in SESSION_STORE_URL',
      );
    case 'evicts':
      return warning(
        `${name} evicts keys when its memory is full (${problem.policy}).`,
        'It would evict live sessions. The sidecars remove expired ones.',
        'maxmemory-policy noeviction',
      );
    case 'may-not-create':
      return error(
        `${name} does not have the tables, and its user may not create them.`,
        'The first sidecar that starts must create them.',
        'GRANT CREATE, USAGE ON SCHEMA public TO the user',
      );
    case 'newer-schema':
      return warning(
        `${name} has the schema of a newer version (${problem.version}).`,
        'The sidecar uses it only if the newer version declared it compatible; else it keeps records in memory.',
        'upgrade fly-affinity on every Machine to the newest version in use',
      );
  }
}

/** A deadline for the whole probe; each step has a shorter one. */
const PROBE_TIMEOUT_MS = 8_000;

/** Never rejects. */
export function probeDatabase(url: StoreUrl, clock: Clock): Promise<ProbedDatabase> {
  const timedOut = failed('timed out');
  const probe = async (signal: AbortSignal): Promise<ProbedDatabase> => {
    try {
      return await probeThroughClient(url, clock, signal);
    } catch (error) {
      return failed(reasonOf(error));
    }
  };
  return withTimeout(clock, PROBE_TIMEOUT_MS, probe, timedOut);
}

async function probeThroughClient(
  { kind, href }: StoreUrl,
  clock: Clock,
  signal: AbortSignal,
): Promise<ProbedDatabase> {
  switch (kind) {
    case 'redis':
      return probeRedis(href, clock, signal);
    case 'postgres':
      return probePostgres(href, clock);
    case 'memory':
      return failed('the store is in memory');
  }
}

function failed(reason: string): ProbedDatabase {
  return { facts: { kind: 'unusable', reason }, clocks: [] };
}

/** Messages of StoreErrors contain no credentials; those of other errors may. */
function reasonOf(error: unknown): string {
  return error instanceof StoreError ? error.message : errorCodeOf(error);
}

/** The URL without user name, password and query. */
export function nameOfDatabase({ href }: StoreUrl): string {
  const { protocol, host, pathname } = new URL(href);
  return `${protocol}//${host}${pathname}`;
}

/** Rejects with a StoreError that shows no credentials. */
async function probeRedis(url: string, clock: Clock, signal: AbortSignal): Promise<ProbedDatabase> {
  const { dialRedisBare, parseRedisUrl } = await import('../store/redis/link.ts');
  const address = parseRedisUrl(url);
  const link = await dialRedisBare(address, { clock, signal, onBroken: () => undefined });
  try {
    const [atMs, startedMs] = [clock.now(), clock.monotonicMs()];
    const time = await link.send(['TIME']);
    const roundTripMs = clock.monotonicMs() - startedMs;
    const clocks = [compareClock('Redis', timeIn(time), 0, { atMs, roundTripMs })];
    const problems = problemsOfRedis(await infoOf(link));
    return { facts: { kind: 'usable', roundTripMs, problems }, clocks };
  } finally {
    link.close();
  }
}

const US_PER_MS = 1_000;

/** Redis returns seconds and microseconds, as strings. */
function timeIn(time: unknown): number {
  const [seconds, micros] = Array.isArray(time) ? time.map(Number) : [];
  return (seconds ?? NaN) * 1_000 + (micros ?? NaN) / US_PER_MS;
}

/** Empty if the user may not run INFO: the doctor then has no problems. */
async function infoOf(link: RedisLink): Promise<ReadonlyMap<string, string>> {
  const text = await link.send(['INFO']).catch(() => '');
  const lines = String(text).split('\r\n');
  return new Map(
    lines.flatMap((line) => {
      const [, name, value] = /^(\w+):([\x20-\x7e]*)$/.exec(line) ?? [];
      return name !== undefined && value !== undefined ? [[name, value] as const] : [];
    }),
  );
}

const OLDEST_REDIS = { text: '6.2', major: 6, minor: 2 };

function problemsOfRedis(info: ReadonlyMap<string, string>): DatabaseProblem[] {
  const problems: DatabaseProblem[] = [];
  const version = info.get('redis_version');
  const [major = NaN, minor = NaN] = (version ?? '').split('.').map(Number);
  const isOld =
    major < OLDEST_REDIS.major || (major === OLDEST_REDIS.major && minor < OLDEST_REDIS.minor);
  if (version !== undefined && isOld) {
    problems.push({ kind: 'old-version', version, oldest: OLDEST_REDIS.text });
  }
  if (info.get('role') === 'slave') problems.push({ kind: 'read-only' });
  const policy = info.get('maxmemory_policy');
  if (policy !== undefined && policy !== 'noeviction') problems.push({ kind: 'evicts', policy });
  return problems;
}

const POSTGRES_STATE = `
  SELECT
    (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS now_ms,
    current_setting('server_version_num')::int AS version,
    pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on' AS is_read_only,
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
    EXISTS (
      SELECT FROM pg_catalog.pg_class
      WHERE relname = 'fly_affinity_migrations' AND pg_catalog.pg_table_is_visible(oid)
    ) AS is_set_up`;
const LATEST_SCHEMA = 'SELECT max(version)::int AS version FROM fly_affinity_migrations';

const STATEMENT_LIMIT_MS = 2_000;

/** Rejects with a StoreError that shows no credentials. */
async function probePostgres(url: string, clock: Clock): Promise<ProbedDatabase> {
  const [{ openPostgresPool }, { toPostgresStoreError }] = await Promise.all([
    import('../store/postgres/pool.ts'),
    import('../store/postgres/errors.ts'),
  ]);
  try {
    const pool = await openPostgresPool(url, clock, () => undefined);
    try {
      return await probePool(pool, clock);
    } finally {
      await pool.close();
    }
  } catch (error) {
    throw toPostgresStoreError('connecting', error);
  }
}

async function probePool(pool: PostgresPool, clock: Clock): Promise<ProbedDatabase> {
  const [atMs, startedMs] = [clock.now(), clock.monotonicMs()];
  const [state = {}] = await pool.query(POSTGRES_STATE, [], STATEMENT_LIMIT_MS);
  const roundTripMs = clock.monotonicMs() - startedMs;
  const clocks = [compareClock('Postgres', Number(state.now_ms), 0, { atMs, roundTripMs })];
  const schema = state.is_set_up === true ? await schemaOf(pool) : undefined;
  const problems = problemsOfPostgres(state, schema);
  return { facts: { kind: 'usable', roundTripMs, problems }, clocks };
}

async function schemaOf(pool: PostgresPool): Promise<number> {
  const [latest] = await pool.query(LATEST_SCHEMA, [], STATEMENT_LIMIT_MS);
  return Number(latest?.version ?? 0);
}

/** `number`: in the form of `server_version_num`. */
const OLDEST_POSTGRES = { text: '13', number: 130_000 };
const PER_MAJOR = 10_000;

function problemsOfPostgres(
  state: Readonly<Record<string, unknown>>,
  schema: number | undefined,
): DatabaseProblem[] {
  const problems: DatabaseProblem[] = [];
  const version = Number(state.version);
  if (version < OLDEST_POSTGRES.number) {
    const shown = String(Math.floor(version / PER_MAJOR));
    problems.push({ kind: 'old-version', version: shown, oldest: OLDEST_POSTGRES.text });
  }
  if (state.is_read_only === true) problems.push({ kind: 'read-only' });
  if (schema === undefined && state.may_create !== true) problems.push({ kind: 'may-not-create' });
  if (schema !== undefined && schema > POSTGRES_SCHEMA_VERSION) {
    problems.push({ kind: 'newer-schema', version: schema });
  }
  return problems;
}
