/**
 * The store in a Postgres database (13 or newer; tested with 15) that the fleet shares: claims are
 * atomic across its Machines, and peers need not be asked. Every operation is one statement and one
 * round trip, or none:
 *
 *     lookup ─ cached within the last second ───────────────> served from the cache
 *              └ else ─────────────────────────────────────> in turn, 500 ms at most
 *     writes ──────────────────────────────────────────────> in turn, 1 s at most
 *
 * Waiting queries share statements (`batches.ts`); queries of one key run in the order of their
 * calls. Time is the database's. A write whose promise has resolved is committed: it survives what
 * the database's configuration survives. A write that timed out may still take effect.
 */
import type { Binding, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { describePostgresOpenFailure, describePostgresUrl } from './errors.ts';
import { createFailureReporter } from './errors.ts';
import type { FailureReporter } from './errors.ts';
import { sumOf } from './upkeep.ts';
import { createPostgresBatches } from './batches.ts';
import type { PostgresBatches } from './batches.ts';
import { toPostgresStoreError } from './errors.ts';
import { openPostgresPool, TRANSACTION_LIMIT_MS } from './pool.ts';
import type { PostgresPool } from './pool.ts';
import { leftBy, toBinding, toOutcome } from './rows.ts';
import { migratePostgres } from './schema.ts';
import { PAGE_ROWS, pageStatement, SIZE, statementOf } from './statements.ts';
import type { StatementSettings } from './statements.ts';
import { PostgresUpkeep } from './upkeep.ts';
import type { BindingCounts } from './upkeep.ts';
import { createRemoteCache } from '../remote-cache.ts';
import type { RemoteCache } from '../remote-cache.ts';
import type { Outcome, Write, WriteKind } from '../rules.ts';
import { StoreError } from '../store.ts';
import type {
  Lookup,
  OnStoreOperation,
  SessionStore,
  StoreLimits,
  StoreMetrics,
} from '../store.ts';
import { createTimed } from '../write-methods.ts';
import type { Timed } from '../write-methods.ts';
import { createStoreCounters, createWriteMethods } from '../write-methods.ts';
import type { StoreCounters } from '../write-methods.ts';

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

/** About 25 MB when full: the sessions that one sidecar is expected to use at a time. */
const MAX_HOT_BINDINGS = 100_000;
/** How old the metrics' count may be, relative to the time it takes to count. */
const COUNT_REST = 100;

/** Writes after which there may be one more binding of an origin. */
const BINDING: ReadonlySet<WriteKind> = new Set(['claim', 'upsert', 'rebind']);

/** What every operation needs. */
interface Parts {
  readonly pool: PostgresPool;
  readonly settings: StatementSettings;
  readonly batches: PostgresBatches;
  readonly upkeep: PostgresUpkeep;
  readonly cache: RemoteCache;
  readonly clock: Clock;
  readonly counters: StoreCounters;
  readonly timed: Timed;
  readonly alarm: FailureReporter;
}

/** Rejects with a {@link StoreError} that names the server, the problem and the remedy. */
export async function openPostgresStore(options: PostgresStoreOptions): Promise<SessionStore> {
  const { url, clock } = options;
  const address = describePostgresUrl(url);
  const alarm = createFailureReporter(options);
  try {
    const pool = await openPostgresPool(url, clock, (error) => alarm.broken(error));
    await migrateOrClose(pool);
    return createPostgresStore(createParts(pool, alarm, options));
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
  const { clock, limits, namespace, onOperation, serverTime } = options;
  const settings = { namespace, maxAgeMs: limits.maxAgeMs, serverTime };
  const counters = createStoreCounters();
  const cache = createRemoteCache(clock, MAX_HOT_BINDINGS);
  const batches = createPostgresBatches({
    clock,
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
    onEvicted: (keys) => keys.forEach((key) => cache.delete(key)),
    onError: (error) => alarm.failed(toPostgresStoreError('store eviction', error)),
  });
  const timed = createTimed(clock, counters, onOperation);
  return { pool, settings, batches, upkeep, cache, clock, counters, timed, alarm };
}

function createPostgresStore(parts: Parts): SessionStore {
  const { upkeep, batches, cache, clock, counters, timed } = parts;
  const count = createRarely(() => upkeep.count(), clock);
  let closed: Promise<void> | undefined;

  const assertOpen = (): void => {
    if (closed) throw new StoreError('closed', 'the session store is closed');
  };
  /** Waits for all earlier operations. */
  const idle = async (): Promise<void> => {
    assertOpen();
    await batches.idle();
    await upkeep.idle();
    assertOpen();
  };
  const lookup = (key: SessionKey): Lookup | Promise<Lookup> => {
    if (closed) return 'unknown';
    counters.lookups += 1;
    return cache.get(key) ?? ask(parts, key);
  };
  const perform = (write: Write): Promise<Outcome> =>
    timed(write.kind, async () => {
      assertOpen();
      return performWrite(parts, write);
    });

  return {
    kind: 'postgres',
    isShared: true,
    lookup,
    ...createWriteMethods(clock, counters, perform),
    cleanup: () =>
      timed('cleanup', async () => {
        await idle();
        return cleanUp(parts);
      }),
    entries: () => pageThrough(parts, idle),
    getMetrics: async () => {
      await idle();
      return measure(parts, count);
    },
    close: () => (closed ??= close(parts)),
  };
}

/** A count may take long, so the pool must end it. */
async function close({ batches, upkeep, pool }: Parts): Promise<void> {
  upkeep.stop();
  await batches.idle();
  await pool.close();
  await upkeep.idle();
}

async function ask(
  { batches, cache, clock, timed, alarm }: Parts,
  key: SessionKey,
): Promise<Lookup> {
  const end = cache.beginRead(key);
  try {
    const row = await timed('lookup', () => batches.ask({ kind: 'lookup', key }));
    const now = clock.now();
    const binding = row && toBinding(row, now);
    const found = binding && binding.expiresAt > now ? binding : 'absent';
    end(found);
    return found;
  } catch (error) {
    end('absent');
    alarm.failed(toPostgresStoreError('store lookup', error));
    return 'unknown';
  }
}

async function performWrite(
  { batches, cache, clock, upkeep }: Parts,
  write: Write,
): Promise<Outcome> {
  assertWhole(write);
  const end = cache.beginWrite(write.key);
  try {
    const outcome = toOutcome(write, await batches.ask(write), clock.now());
    end(leftBy(write, outcome));
    const { after, hasTakenEffect } = outcome;
    if (after && hasTakenEffect && BINDING.has(write.kind)) upkeep.noteWritten(after.origin);
    return outcome;
  } catch (error) {
    end('unknown');
    throw toPostgresStoreError(`store ${write.kind}`, error);
  }
}

/** A row that the database rejects would fail the other writes of its batch. */
function assertWhole(write: Write): void {
  if (write.kind !== 'upsert' || Number.isSafeInteger(write.generation)) return;
  throw new StoreError('fatal', `a generation must be a whole number, got ${write.generation}`);
}

async function cleanUp({ upkeep, counters, clock }: Parts): Promise<number> {
  try {
    const removed = await upkeep.cleanUp();
    counters.lastCleanupAt = clock.now();
    return removed;
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

async function measure(
  { pool, counters }: Parts,
  count: () => Promise<BindingCounts>,
): Promise<StoreMetrics> {
  try {
    const { all, alive } = await count();
    const [size] = await pool.query(SIZE, [], TRANSACTION_LIMIT_MS);
    const total = sumOf(all);
    return { total, expired: total - sumOf(alive), sizeBytes: Number(size?.bytes), ...counters };
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
