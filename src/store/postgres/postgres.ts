/**
 * The store in a Postgres database (13 or newer; tested with 15) that the fleet shares: claims are
 * atomic across its Machines, and peers need not be asked. Every operation is one statement and one
 * round trip.
 *
 * Waiting queries share statements (`batches.ts`); those of one key run in the order of their calls
 * (`../in-flight.ts`). Time is the database's. A write whose promise has resolved is committed: it
 * survives what the database's configuration survives. A write that timed out may still take effect,
 * before the next one of its key.
 */
import type { Binding, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { createWritesInFlight, type WritesInFlight } from '../in-flight.ts';
import {
  createRemoteCache,
  createRemoteStore,
  type RemoteCache,
  type RemoteDatabase,
  type Written,
} from '../remote-store.ts';
import type { Write, WriteKind } from '../rules.ts';
import {
  StoreError,
  type OnStoreOperation,
  type SessionStore,
  type StoreLimits,
} from '../store.ts';
import { createPostgresBatches, type PostgresBatches } from './batches.ts';
import {
  createFailureReporter,
  describePostgresOpenFailure,
  describePostgresUrl,
  toPostgresStoreError,
  type FailureReporter,
} from './errors.ts';
import { openPostgresPool, TRANSACTION_LIMIT_MS, type PostgresPool } from './pool.ts';
import { leftBy, toBinding, toOutcome, migratePostgres } from './schema.ts';
import {
  PAGE_ROWS,
  pageStatement,
  SIZE,
  statementOf,
  type StatementSettings,
} from './statements.ts';
import { PostgresUpkeep, sumOf, type BindingCounts } from './upkeep.ts';

export interface PostgresStoreOptions {
  /**
   * `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, or `postgresql://`. Without `sslmode` there is no
   * TLS, as within Fly's private network. `sslmode=verify-full`, `verify-ca`, `require` and `prefer`
   * all mean TLS with a certificate for that host, of an authority that Node.js knows or that is in
   * the file `sslrootcert`; `sslmode=no-verify` means TLS with any certificate.
   */
  readonly url: string;
  /** Part of every key: fleets with different namespaces do not see each other's keys. */
  readonly namespace: string;
  readonly clock: Clock;
  readonly limits: StoreLimits;
  readonly onOperation?: OnStoreOperation;
  /** Errors that no caller gets: reads that began to fail, a lost connection. */
  readonly onError?: (error: StoreError) => void;
  /** An established connection has broken: after a failover, acknowledged writes may be lost. */
  readonly onDisrupted?: () => void;
  /** Replaces the database's clock in tests; in ms since the epoch. */
  readonly serverTime?: () => number;
}

/** How old the metrics' count may be, relative to the time it takes to count. */
const COUNT_REST = 100;

/** Writes after which there may be one more binding of an origin. */
const BINDING: ReadonlySet<WriteKind> = new Set(['claim', 'upsert', 'rebind']);

/** What every operation needs. */
interface Parts {
  readonly pool: PostgresPool;
  readonly settings: StatementSettings;
  readonly inFlight: WritesInFlight<undefined>;
  readonly batches: PostgresBatches;
  readonly upkeep: PostgresUpkeep;
  readonly cache: RemoteCache;
  readonly clock: Clock;
  readonly alarm: FailureReporter;
}

/** Rejects with a {@link StoreError} that names the server, the problem and the remedy. */
export async function openPostgresStore(options: PostgresStoreOptions): Promise<SessionStore> {
  const { url, clock, onOperation } = options;
  const address = describePostgresUrl(url);
  const alarm = createFailureReporter(options);
  try {
    const pool = await openPostgresPool(url, clock, (error) => alarm.broken(error));
    await migrateOrClose(pool);
    const parts = createParts(pool, alarm, options);
    const { inFlight, cache } = parts;
    return createRemoteStore(databaseOf(parts), {
      clock,
      inFlight,
      cache,
      onOperation,
    });
  } catch (error) {
    throw describePostgresOpenFailure(address, toPostgresStoreError('opening', error));
  }
}

async function migrateOrClose(pool: PostgresPool): Promise<void> {
  try {
    await migratePostgres(pool);
  } catch (error) {
    await pool.close();
    throw error;
  }
}

function createParts(
  pool: PostgresPool,
  alarm: FailureReporter,
  options: PostgresStoreOptions,
): Parts {
  const { clock, limits, namespace, serverTime } = options;
  const settings = { namespace, maxAgeMs: limits.maxAgeMs, serverTime };
  const inFlight = createWritesInFlight<undefined>();
  const cache = createRemoteCache(clock, inFlight);
  const batches = createPostgresBatches({
    clock,
    inFlight,
    perform: async (questions, limitMs) => {
      const { text, values } = statementOf(questions, settings);
      const rows = await pool.query(text, values, limitMs);
      alarm.worked();
      return rows;
    },
  });
  const upkeep = new PostgresUpkeep({
    pool,
    settings,
    maxSessions: limits.maxSessions,
    onEvicted: (keys) => cache.forget(keys),
    onError: (error) => alarm.failed(toPostgresStoreError('store eviction', error)),
  });
  return { pool, settings, inFlight, batches, upkeep, cache, clock, alarm };
}

function databaseOf(parts: Parts): RemoteDatabase {
  const { upkeep, pool, clock, alarm } = parts;
  const count = createRarely(() => upkeep.count(), clock);
  return {
    kind: 'postgres',
    read: (key) => read(parts, key),
    write: (write) => performWrite(parts, write),
    onReadFailed: (error) => alarm.failed(toPostgresStoreError('store lookup', error)),
    cleanUp: (idle) => cleanUp(parts, idle),
    list: (idle) => pageThrough(parts, idle),
    measure: () => measure(pool, count),
    idle: () => upkeep.idle(),
    reconnect: () => pool.reconnect(),
    close: async () => {
      upkeep.stop();
      // A count may take long, so the pool must end it.
      await pool.close();
      await upkeep.idle();
    },
  };
}

async function read({ batches, clock }: Parts, key: SessionKey): Promise<Binding | 'absent'> {
  const row = await batches.ask({ kind: 'lookup', key });
  const now = clock.now();
  const binding = row && toBinding(row, now);
  return binding && binding.expiresAt > now ? binding : 'absent';
}

async function performWrite({ batches, clock, upkeep }: Parts, write: Write): Promise<Written> {
  assertWhole(write);
  try {
    const outcome = toOutcome(write, await batches.ask(write), clock.now());
    const { after, hasTakenEffect } = outcome;
    if (after && hasTakenEffect && BINDING.has(write.kind)) upkeep.noteWritten(after.origin);
    return { outcome, left: leftBy(write, outcome) };
  } catch (error) {
    throw toPostgresStoreError(`store ${write.kind}`, error);
  }
}

/** A row that the database rejects would fail the other writes of its batch. */
function assertWhole(write: Write): void {
  if (write.kind !== 'upsert' || Number.isSafeInteger(write.generation)) return;
  throw new StoreError('fatal', `a generation must be a whole number, got ${write.generation}`);
}

async function cleanUp({ upkeep }: Parts, idle: () => Promise<void>): Promise<number> {
  await idle();
  try {
    return await upkeep.cleanUp();
  } catch (error) {
    throw toPostgresStoreError('store cleanup', error);
  }
}

/** In the order of the keys. */
async function* pageThrough(
  { pool, settings, clock }: Parts,
  idle: () => Promise<void>,
): AsyncGenerator<Binding> {
  let after: SessionKey | undefined;
  do {
    await idle();
    const { text, values } = pageStatement(after, settings);
    const rows = await pool.query(text, values, TRANSACTION_LIMIT_MS).catch((error: unknown) => {
      throw toPostgresStoreError('listing the store', error);
    });
    const now = clock.now();
    const page = rows.map((row) => toBinding(row, now));
    yield* page.filter(({ expiresAt }) => expiresAt > now);
    after = page.length < PAGE_ROWS ? undefined : page.at(-1)?.key;
  } while (after !== undefined);
}

async function measure(pool: PostgresPool, count: () => Promise<BindingCounts>) {
  try {
    const { all, alive } = await count();
    const [size] = await pool.query(SIZE, [], TRANSACTION_LIMIT_MS);
    const total = sumOf(all);
    return {
      total,
      expired: total - sumOf(alive),
      sizeBytes: Number(size?.bytes),
    };
  } catch (error) {
    throw toPostgresStoreError('measuring the store', error);
  }
}

/**
 * A count visits all rows, a tenth of a second for a million of them; frequent scrapes would do
 * little else. So counting takes a hundredth of the time at most, and a slow count is reused for a
 * while.
 */
function createRarely<Result>(count: () => Promise<Result>, clock: Clock): () => Promise<Result> {
  let latest: { readonly result: Result; readonly untilMs: number } | undefined;
  return async () => {
    const startedAt = clock.monotonicMs();
    if (latest && startedAt < latest.untilMs) return latest.result;
    const result = await count();
    const endedAt = clock.monotonicMs();
    latest = { result, untilMs: endedAt + COUNT_REST * (endedAt - startedAt) };
    return result;
  };
}
