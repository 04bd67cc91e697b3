/**
 * The store in a Postgres database (13 or newer; tried with 15) that the fleet shares: claims are
 * atomic across its Machines, and nobody needs to ask a peer. Every operation is one statement and
 * one round trip, or none:
 *
 *     lookup ─ said by the database within the last second ─> answered from here
 *              └ else ─────────────────────────────────────> in turn, 500 ms at most
 *     writes ──────────────────────────────────────────────> in turn, 1 s at most
 *
 * What waits for its turn goes together (`batches.ts`); of each key it goes in the order of
 * the calls. Time is the database's. A write whose promise has resolved is committed: it survives
 * what the database is set up to survive. One that failed for its time may still take effect.
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
  /** Part of every key: fleets with different ones see nothing of each other. */
  readonly namespace: string;
  readonly clock: Clock;
  readonly limits: StoreLimits;
  readonly onOperation?: OnStoreOperation;
  /** What no caller hears of: reads that began to fail, a connection lost. */
  readonly onError?: (error: StoreError) => void;
  /** A connection that was up has broken: after a failover, what was acknowledged may be lost. */
  readonly onDisrupted?: () => void;
  /** In place of the database's own clock, for tests; in ms since the epoch. */
  readonly serverTime?: () => number;
}

/** About 25 MB when full: the sessions that one sidecar is expected to have in use at once. */
const MAX_HOT_BINDINGS = 100_000;
/** What the metrics count is so much older at most than it took to count. */
const COUNT_REST = 100;

/** Those after which there may be one more of an origin. */
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

/** Rejects with a {@link StoreError} that names the server, what was found and what to do. */
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
  /** All that was called before. */
  const settled = async (): Promise<void> => {
    assertOpen();
    await batches.settled();
    await upkeep.settled();
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
        await settled();
        return cleanUp(parts);
      }),
    entries: () => pageThrough(parts, settled),
    getMetrics: async () => {
      await settled();
      return measure(parts, count);
    },
    close: () => (closed ??= close(parts)),
  };
}

/** Counting may take long, so the pool ends it where it must. */
async function close({ batches, upkeep, pool }: Parts): Promise<void> {
  upkeep.stop();
  await batches.settled();
  await pool.close();
  await upkeep.settled();
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

/** One that the database refuses would take others with it that go together with it. */
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
  settled: () => Promise<void>,
): AsyncGenerator<Binding> {
  let after: SessionKey | undefined;
  do {
    await settled();
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
 * Counting goes over all rows, a tenth of a second for a million of them; a fleet that is scraped
 * often would do little else. So it takes a hundredth of the time at most, and what took long to
 * count is a while old.
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
