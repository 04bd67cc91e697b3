/**
 * The store in a Redis server that the fleet shares (Redis from 6.2 on, Valkey, Upstash). Every
 * operation is one round trip, and every write is one script, atomic on the server:
 *
 *     lookup ─ cached within the last second ─────────────> served from the cache
 *              └ else ───────────────────────────────────> GET and TIME, 500 ms at most
 *     writes ─────────────────────────────────────────────> script, 1 s at most
 *
 * All operations share one connection without waiting for each other, so they take effect in the
 * order of their calls. What a binding survives depends on the server's configuration: its
 * append-only file, its replicas. A write that timed out may still take effect.
 */
import type { Binding } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { parseRedisUrl } from './address.ts';
import { createScriptCalls } from './connection.ts';
import type { CallScript } from './connection.ts';
import { RedisConnection } from './connection.ts';
import { isReply, toRedisStoreError } from './errors.ts';
import { createRedisLookup } from './lookup.ts';
import { keysIn, limitArguments, parseOutcome, parseRow, writeArguments } from './rows.ts';
import type { RedisKeys } from './rows.ts';
import { CLEANUP, COUNT, PAGE, WRITE } from './scripts.ts';
import { createRemoteCache } from '../remote-cache.ts';
import type { RemoteCache } from '../remote-cache.ts';
import type { Outcome, Write } from '../rules.ts';
import { StoreError } from '../store.ts';
import type { OnStoreOperation, SessionStore, StoreLimits } from '../store.ts';
import { createTimed } from '../write-methods.ts';
import { createStoreCounters, createWriteMethods } from '../write-methods.ts';

export interface RedisStoreOptions {
  /** `redis://` or `rediss://`, credentials included. */
  readonly url: string;
  /** Part of every key: fleets with different namespaces do not see each other's keys. */
  readonly namespace: string;
  readonly clock: Clock;
  readonly limits: StoreLimits;
  readonly random: () => number;
  readonly onOperation?: OnStoreOperation;
  /** Errors that no caller gets: reads that began to fail, a lost connection. */
  readonly onError?: (error: StoreError) => void;
  /** An established connection has broken: writes that the server acknowledged may be lost. */
  readonly onDisrupted?: () => void;
  /** Replaces the server's clock in tests; in ms since the epoch. */
  readonly serverTime?: () => number;
}

const WRITE_LIMIT_MS = 1_000;
/** About 25 MB when full: the sessions that one sidecar is expected to use at a time. */
const MAX_HOT_BINDINGS = 100_000;
/** Bindings that one script removes or lists: they block the server for a millisecond or two. */
const STRIDE = 500;

/** What every operation needs. */
interface Parts {
  readonly call: CallScript;
  readonly keys: RedisKeys;
  readonly limits: StoreLimits;
  readonly clock: Clock;
  readonly cache: RemoteCache;
  /** ARGV[1] of every script: the time, or empty to use the server's clock. */
  readonly moment: () => string;
}

/**
 * Rejects within two seconds with a {@link StoreError} that names the server, the problem and the
 * remedy.
 */
export async function openRedisStore(options: RedisStoreOptions): Promise<SessionStore> {
  const { url, clock, random, onError, onDisrupted } = options;
  const address = parseRedisUrl(url);
  try {
    const connection = await RedisConnection.open({
      ...{ address, clock, random, onError, onDisrupted },
    });
    return createRedisStore(connection, options);
  } catch (error) {
    throw describeOpenFailure(address.shown, toRedisStoreError('opening', error));
  }
}

function createRedisStore(connection: RedisConnection, options: RedisStoreOptions): SessionStore {
  const { clock, limits, onOperation, onError, serverTime } = options;
  const counters = createStoreCounters();
  const timed = createTimed(clock, counters, onOperation);
  const cache = createRemoteCache(clock, MAX_HOT_BINDINGS);
  const call = createScriptCalls(connection, clock);
  const keys = keysIn(options.namespace);
  const moment = (): string => (serverTime ? String(Math.floor(serverTime())) : '');
  const parts: Parts = { call, keys, limits, clock, cache, moment };
  // `onError` has already reported a lost connection.
  const onFailing = (error: StoreError): void => {
    if (connection.isUp()) onError?.(error);
  };
  const lookup = createRedisLookup({
    ...parts,
    connection,
    serverTime,
    timed,
    counters,
    onFailing,
  });
  const underWay = new Set<Promise<unknown>>();
  let closed: Promise<void> | undefined;

  const assertOpen = (): void => {
    if (closed) throw new StoreError('closed', 'the session store is closed');
  };
  /** Waited for before a close. */
  const finish = async <Result>(work: Promise<Result>): Promise<Result> => {
    underWay.add(work);
    return work.finally(() => underWay.delete(work));
  };
  const perform = (write: Write): Promise<Outcome> =>
    timed(write.kind, async () => {
      assertOpen();
      return finish(performWrite(parts, write));
    });

  return {
    kind: 'redis',
    isShared: true,
    lookup: (key) => (closed ? 'unknown' : lookup(key)),
    ...createWriteMethods(clock, counters, perform),
    cleanup: () =>
      timed('cleanup', async () => {
        assertOpen();
        const removed = await cleanUp(parts, assertOpen);
        counters.lastCleanupAt = clock.now();
        return removed;
      }),
    entries: () => pageThrough(parts, assertOpen),
    getMetrics: async () => {
      assertOpen();
      // The server's disk and memory hold other data too, so their size says nothing about this
      // store.
      return { ...(await count(parts)), sizeBytes: 0, ...counters };
    },
    close: () => (closed ??= close(connection, underWay)),
  };
}

async function close(
  connection: RedisConnection,
  underWay: ReadonlySet<Promise<unknown>>,
): Promise<void> {
  await Promise.allSettled(underWay);
  await connection.close();
}

async function performWrite(parts: Parts, write: Write): Promise<Outcome> {
  const { keys, limits, clock, cache } = parts;
  const args = writeArguments(write);
  const end = cache.beginWrite(write.key);
  try {
    const [reply = '', ...evicted] = await ask(parts, `store ${write.kind}`, {
      script: WRITE,
      keys: [keys.prefix + write.key, ...keys.indexes],
      args: [parts.moment(), String(limits.maxAgeMs), ...limitArguments(limits), ...args],
    });
    const outcome = parseOutcome(write.key, reply, clock.now());
    end(outcome.after ?? 'absent');
    forgetAll(cache, evicted);
    return outcome;
  } catch (error) {
    end('unknown');
    throw error;
  }
}

/** Removes in strides, so that other clients get their turn in between. */
async function cleanUp(parts: Parts, assertOpen: () => void): Promise<number> {
  const { keys, limits, cache } = parts;
  let total = 0;
  let removedCount: number;
  do {
    assertOpen();
    const [removed, ...sessions] = await ask(parts, 'store cleanup', {
      script: CLEANUP,
      keys: keys.indexes,
      args: [parts.moment(), ...limitArguments(limits), keys.prefix, String(STRIDE)],
    });
    forgetAll(cache, sessions);
    removedCount = Number(removed);
    total += removedCount;
  } while (removedCount >= STRIDE);
  return total;
}

function forgetAll(cache: RemoteCache, sessions: readonly string[]): void {
  for (const session of sessions) cache.delete(session as Binding['key']);
}

/**
 * Lists one sorted set after the other. A binding that exists all the time is listed; while the
 * server resizes a set, or a binding moves to another set, it may be listed twice.
 */
async function* pageThrough(parts: Parts, assertOpen: () => void): AsyncGenerator<Binding> {
  const { keys, clock } = parts;
  for (const index of keys.indexes) {
    let cursor = '0';
    do {
      assertOpen();
      const [next = '0', ...rows]: string[] = await ask(parts, 'listing the store', {
        script: PAGE,
        keys: [index],
        args: [parts.moment(), cursor, String(STRIDE), keys.prefix],
      });
      cursor = next;
      for (const row of rows) yield parseRow(row, clock.now());
    } while (cursor !== '0');
  }
}

async function count(parts: Parts): Promise<{ total: number; expired: number }> {
  const [total, expired] = await ask(parts, 'counting the store', {
    script: COUNT,
    keys: parts.keys.indexes,
    args: [parts.moment()],
  });
  return { total: Number(total), expired: Number(expired) };
}

/** `doing` names the operation that failed, in the text of the error. */
async function ask(
  { call }: Parts,
  doing: string,
  question: Omit<Parameters<CallScript>[0], 'limitMs'>,
): Promise<string[]> {
  try {
    return await call({ ...question, limitMs: WRITE_LIMIT_MS });
  } catch (error) {
    throw toRedisStoreError(doing, error);
  }
}

function describeOpenFailure(server: string, error: StoreError): StoreError {
  const { code, message, cause } = error;
  const text = `the session store at ${server} cannot be used: ${message}; ${adviceOn(error)}`;
  return new StoreError(code, text, { cause });
}

function adviceOn({ code, cause }: StoreError): string {
  if (code !== 'passing')
    return 'check the address, user, password and permissions in SESSION_STORE_URL';
  if (isReply(cause)) return 'the server is reachable and may recover; the next attempt follows';
  return 'check that it runs, that this Machine can reach it, and whether it needs TLS (rediss://)';
}
