/**
 * The store in a database that a fleet shares: what Redis and Postgres have in common. A cache
 * before the database lets a session in use cost no round trip.
 *
 *     lookup ─ cached within the last second ─> served from the cache
 *            └ else ─> query in turn, 500 ms at most; cached, unless a write of this key is in
 *                      flight by then
 *     write ─ called ─> the key is forgotten; performed in turn
 *           └ ends ───> its result is cached, unless another write of this key is in flight
 *
 * So this process sees its own writes at once, and changes by others within a second. Until then a
 * stale owner costs one more hop: the Machine that it names knows better. An absent key is never
 * cached, because a session that another Machine has just bound must be found.
 */
import type { Binding, SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import { createHotCache } from './hot-cache.ts';
import type { WritesInFlight } from './in-flight.ts';
import type { Outcome, Write } from './rules.ts';
import {
  StoreError,
  type Lookup,
  type OnStoreOperation,
  type SessionStore,
  type StoreMetrics,
} from './store.ts';
import { createTimeLimit } from './time-limit.ts';
import { createStoreCounters, createTimed, createWriteMethods } from './write-methods.ts';

/** Performs the operations. Every method but `idle` and `close` rejects with the error it met. */
export interface RemoteDatabase {
  readonly kind: 'redis' | 'postgres';
  /** In turn: after the writes of the key called before it. */
  read(key: SessionKey): Promise<Binding | 'absent'>;
  /** In turn. Rejects with a {@link StoreError}. */
  write(write: Write): Promise<Written>;
  /** No caller gets the error of a read. */
  onReadFailed(error: unknown): void;
  /** Calls `idle` before each round trip: it rejects once the store is closed. */
  cleanUp(idle: () => Promise<void>): Promise<number>;
  list(idle: () => Promise<void>): AsyncIterable<Binding>;
  measure(): Promise<Pick<StoreMetrics, 'total' | 'expired' | 'sizeBytes'>>;
  /** Resolves once the work that earlier writes have caused has ended. */
  idle(): Promise<void>;
  /** As {@link SessionStore.reconnect}. */
  reconnect(): void;
  close(): Promise<void>;
}

/** The result of a write. */
export interface Written {
  readonly outcome: Outcome;
  /** What is bound then; `unknown` if the response does not say. */
  readonly left: Binding | 'absent' | 'unknown';
}

interface RemoteStoreOptions {
  readonly clock: Clock;
  /** The order that the database keeps. */
  readonly inFlight: Pick<WritesInFlight<never>, 'of' | 'ended'>;
  readonly cache: RemoteCache;
  readonly onOperation: OnStoreOperation | undefined;
}

/** How long a request waits for a read; then the result is `unknown`. */
export const READ_LIMIT_MS = 500;
export const WRITE_LIMIT_MS = 1_000;

export function createRemoteStore(
  database: RemoteDatabase,
  { clock, inFlight, cache, onOperation }: RemoteStoreOptions,
): SessionStore {
  const counters = createStoreCounters();
  const timed = createTimed(clock, counters, onOperation);
  const limit = createTimeLimit(clock, READ_LIMIT_MS, 'a lookup behind a write');
  let closed: Promise<void> | undefined;

  const assertOpen = (): void => {
    if (closed) throw new StoreError('closed', 'the session store is closed');
  };
  /** Waits for all earlier operations. */
  const idle = async (): Promise<void> => {
    assertOpen();
    await inFlight.ended();
    await database.idle();
    assertOpen();
  };
  const ask = async (key: SessionKey): Promise<Lookup> => {
    const isBehind = inFlight.of(key) !== undefined;
    // The write caches its own result: it may be older than this lookup.
    const end = isBehind ? undefined : cache.beginRead(key);
    let found: Binding | 'absent' = 'absent';
    try {
      const asked = timed('lookup', () => database.read(key));
      found = await (isBehind ? limit(asked) : asked);
      return found;
    } catch (error) {
      database.onReadFailed(error);
      return 'unknown';
    } finally {
      end?.(found);
    }
  };

  return {
    kind: database.kind,
    isShared: true,
    lookup: (key) => {
      if (closed) return 'unknown';
      counters.lookups += 1;
      return cache.get(key) ?? ask(key);
    },
    ...createWriteMethods(clock, counters, (write) =>
      timed(write.kind, async () => {
        assertOpen();
        return performAndCache(database, cache, write);
      }),
    ),
    reconnect: () => {
      if (!closed) database.reconnect();
    },
    cleanup: () =>
      timed('cleanup', async () => {
        const removed = await database.cleanUp(idle);
        counters.lastCleanupAt = clock.now();
        return removed;
      }),
    entries: () => database.list(idle),
    getMetrics: async () => {
      await idle();
      return { ...(await database.measure()), ...counters };
    },
    close: () => (closed ??= inFlight.ended().then(() => database.close())),
  };
}

async function performAndCache(
  database: RemoteDatabase,
  cache: RemoteCache,
  write: Write,
): Promise<Outcome> {
  const end = cache.beginWrite(write.key);
  try {
    const { outcome, left } = await database.write(write);
    end(left);
    return outcome;
  } catch (error) {
    end('unknown');
    throw error;
  }
}

export interface RemoteCache {
  /** The cached binding, if it is fresh enough to use without a query. */
  get(key: SessionKey): Binding | undefined;
  /** Call it before the query is sent; the returned function takes the response. */
  beginRead(key: SessionKey): (response: Binding | 'absent') => void;
  /**
   * Call it when the write is called; the returned function takes what the write left, `unknown` if
   * it failed. Call that once the write is no longer in flight.
   */
  beginWrite(key: SessionKey): (after: Binding | 'absent' | 'unknown') => void;
  /** Forgets bindings that were evicted, and ignores the responses to earlier queries. */
  forget(keys: readonly SessionKey[]): void;
}

/** About 25 MB when full: the sessions that one sidecar is expected to use at a time. */
const MAX_HOT_BINDINGS = 100_000;
/** What another process writes is visible within this time. */
const MAX_UNSEEN_MS = 1_000;

interface Held {
  readonly key: SessionKey;
  readonly binding: Binding;
  /** The entry is fresh until then. */
  readonly expiresAt: number;
}

export function createRemoteCache(
  clock: Clock,
  inFlight: Pick<WritesInFlight<never>, 'of' | 'beginRead' | 'cross'>,
  maxEntries = MAX_HOT_BINDINGS,
): RemoteCache {
  const held = createHotCache<Held>(maxEntries);

  /** The response may be as old as the query. */
  const keep = (binding: Binding, askedAt: number): void => {
    const { key } = binding;
    const expiresAt = Math.min(binding.expiresAt, askedAt + MAX_UNSEEN_MS);
    held.set({ key, binding, expiresAt });
  };

  return {
    get: (key) => held.get(key, clock.now())?.binding,
    beginRead: (key) => {
      const askedAt = clock.now();
      const end = inFlight.beginRead(key);
      return (response) => {
        const isOutdated = end() || inFlight.of(key) !== undefined;
        if (!isOutdated && response !== 'absent') keep(response, askedAt);
      };
    },
    beginWrite: (key) => {
      const askedAt = clock.now();
      held.delete(key);
      return (after) => {
        if (inFlight.of(key)) return;
        if (typeof after === 'string') held.delete(key);
        else keep(after, askedAt);
      };
    },
    forget: (keys) => {
      for (const key of keys) {
        held.delete(key);
        inFlight.cross(key);
      }
    },
  };
}
