/**
 * The store in a Redis server that the fleet shares (Redis from 6.2 on, Valkey, Upstash). Every
 * operation is one round trip, and every write is one script, atomic on the server:
 *
 *     lookup ─────────────────────────> GET and TIME
 *              └ behind a write ──────> what the write left
 *     writes ─────────────────────────> script
 *
 * Operations of one key run in the order of their calls (`../in-flight.ts`). All operations share
 * one connection, those of different keys without waiting for each other, so that one that timed
 * out can't take effect after a later one. What a binding survives depends on the server's
 * configuration: its append-only file, its replicas.
 */
import type { Binding, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { createWritesInFlight, type WritesInFlight } from '../in-flight.ts';
import {
  createRemoteCache,
  createRemoteStore,
  READ_LIMIT_MS,
  WRITE_LIMIT_MS,
  type RemoteCache,
  type RemoteDatabase,
  type Written,
} from '../remote-store.ts';
import type { Write } from '../rules.ts';
import type { StoreError, OnStoreOperation, SessionStore, StoreLimits } from '../store.ts';
import { parseRedisUrl } from './link.ts';
import { createScriptCalls, RedisConnection, type CallScript } from './connection.ts';
import { describeRedisOpenFailure, toRedisStoreError } from './errors.ts';
import {
  keysIn,
  limitArguments,
  parseOutcome,
  parseRow,
  parseStored,
  serverMs,
  writeArguments,
  type RedisKeys,
} from './protocol.ts';
import { CLEANUP, COUNT, PAGE, WRITE } from './scripts.ts';

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

/** Bindings that one script removes or lists: they block the server for a millisecond or two. */
const STRIDE = 500;

/** What every operation needs. */
interface Parts {
  readonly connection: RedisConnection;
  readonly call: CallScript;
  readonly keys: RedisKeys;
  readonly limits: StoreLimits;
  readonly clock: Clock;
  readonly inFlight: WritesInFlight<Written>;
  readonly cache: RemoteCache;
  readonly serverTime: (() => number) | undefined;
  readonly reads: ReadReporter;
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
    throw describeRedisOpenFailure(address.shown, toRedisStoreError('opening', error));
  }
}

function createRedisStore(connection: RedisConnection, options: RedisStoreOptions): SessionStore {
  const { namespace, clock, limits, onOperation, onError, serverTime } = options;
  const inFlight = createWritesInFlight<Written>();
  const cache = createRemoteCache(clock, inFlight);
  const call = createScriptCalls(connection, clock);
  const keys = keysIn(namespace);
  const reads = createReadReporter(connection, onError);
  const shared = { keys, limits, clock, inFlight, cache, serverTime, reads };
  const parts: Parts = { connection, call, ...shared };
  const database: RemoteDatabase = {
    kind: 'redis',
    read: (key) => readInTurn(parts, key),
    write: (write) => inFlight.run(write, () => sendWrite(parts, write)),
    onReadFailed: (error) => reads.failed(error),
    cleanUp: (idle) => cleanUp(parts, idle),
    list: (idle) => pageThrough(parts, idle),
    measure: () => measure(parts),
    idle: () => Promise.resolve(),
    reconnect: () => connection.reconnect(),
    close: () => connection.close(),
  };
  return createRemoteStore(database, { clock, inFlight, cache, onOperation });
}

interface ReadReporter {
  worked(): void;
  failed(error: unknown): void;
}

/** Reports when reads begin to fail, not every failed read. */
function createReadReporter(
  connection: RedisConnection,
  onError: RedisStoreOptions['onError'],
): ReadReporter {
  let isFailing = false;
  return {
    worked: () => {
      isFailing = false;
    },
    failed: (error) => {
      // `onError` has already reported a lost connection.
      if (!isFailing && connection.isUp()) onError?.(toRedisStoreError('store lookup', error));
      isFailing = true;
    },
  };
}

/** ARGV[1] of every script: the time, or empty to use the server's clock. */
function momentOf({ serverTime }: Parts): string {
  return serverTime ? String(Math.floor(serverTime())) : '';
}

/** The result of a write says what is bound: no query is needed behind it. */
function readInTurn(parts: Parts, key: SessionKey): Promise<Binding | 'absent'> {
  const { inFlight, clock } = parts;
  return inFlight.read(key, (written) => {
    if (written === undefined || written.left === 'unknown') return query(parts, key);
    const { left } = written;
    return Promise.resolve(left !== 'absent' && left.expiresAt > clock.now() ? left : 'absent');
  });
}

async function query(
  { connection, keys, clock, serverTime, reads }: Parts,
  key: SessionKey,
): Promise<Binding | 'absent'> {
  const question = ['GET', keys.prefix + key];
  const [text, time] = await connection.askWithTime(question, READ_LIMIT_MS);
  reads.worked();
  if (typeof text !== 'string') return 'absent';
  return parseStored(key, text, Math.floor(serverTime?.() ?? serverMs(time)), clock.now());
}

async function sendWrite(parts: Parts, write: Write): Promise<Written> {
  const { keys, limits, clock, cache } = parts;
  const { key } = write;
  const args = writeArguments(write);
  const [reply = '', ...evicted] = await ask(parts, `store ${write.kind}`, {
    script: WRITE,
    keys: [keys.prefix + key, ...keys.indexes],
    args: [momentOf(parts), String(limits.maxAgeMs), ...limitArguments(limits), ...args],
  });
  cache.forget(evicted as SessionKey[]);
  const outcome = parseOutcome(key, reply, clock.now());
  // A write may evict its own binding.
  return { outcome, left: evicted.includes(key) ? 'absent' : (outcome.after ?? 'absent') };
}

/** Removes in strides, so that other clients get their turn in between. */
async function cleanUp(parts: Parts, idle: () => Promise<void>): Promise<number> {
  const { keys, limits, cache } = parts;
  let total = 0;
  let removedCount: number;
  do {
    await idle();
    const [removed, ...sessions] = await ask(parts, 'store cleanup', {
      script: CLEANUP,
      keys: keys.indexes,
      args: [momentOf(parts), ...limitArguments(limits), keys.prefix, String(STRIDE)],
    });
    cache.forget(sessions as SessionKey[]);
    removedCount = Number(removed);
    total += removedCount;
  } while (removedCount >= STRIDE);
  return total;
}

/**
 * Lists one sorted set after the other. A binding that exists all the time is listed; while the
 * server resizes a set, or a binding moves to another set, it may be listed twice.
 */
async function* pageThrough(parts: Parts, idle: () => Promise<void>): AsyncGenerator<Binding> {
  const { keys, clock } = parts;
  for (const index of keys.indexes) {
    let cursor = '0';
    do {
      await idle();
      const [next = '0', ...rows]: string[] = await ask(parts, 'listing the store', {
        script: PAGE,
        keys: [index],
        args: [momentOf(parts), cursor, String(STRIDE), keys.prefix],
      });
      cursor = next;
      for (const row of rows) yield parseRow(row, clock.now());
    } while (cursor !== '0');
  }
}

/** The server's disk and memory hold other data too, so their size says nothing about this store. */
async function measure(parts: Parts) {
  const [total, expired] = await ask(parts, 'counting the store', {
    script: COUNT,
    keys: parts.keys.indexes,
    args: [momentOf(parts)],
  });
  return { total: Number(total), expired: Number(expired), sizeBytes: 0 };
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
