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
import {
  type Binding,
  type SessionKey,
  parseMachineId,
  parseSessionKey,
  type BindingOrigin,
} from '../../session.ts';
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
import { type Write, wholeTtlMs, type Outcome } from '../rules.ts';
import {
  StoreError,
  type OnStoreOperation,
  type SessionStore,
  type StoreLimits,
  adoptedCap,
  EVICTION_ORDER,
} from '../store.ts';
import { parseRedisUrl } from './link.ts';
import { createScriptCalls, RedisConnection, type CallScript } from './connection.ts';
import { describeRedisOpenFailure, toRedisStoreError } from './errors.ts';
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

export interface RedisKeys {
  /** The prefix of a session key. */
  readonly prefix: string;
  /** The sorted sets, in the order of eviction. */
  readonly indexes: readonly string[];
}

/** The braces make a cluster keep all keys together; braces in the namespace itself are escaped. */
export function keysIn(namespace: string): RedisKeys {
  const prefix = `fly-affinity:{${encodeURIComponent(namespace)}}:`;
  return { prefix, indexes: EVICTION_ORDER.map((origin) => `${prefix}${origin}`) };
}

/** In the order of the scripts' arguments, after the time. */
export function limitArguments({ maxSessions }: StoreLimits): string[] {
  return [String(maxSessions), String(adoptedCap(maxSessions))];
}

/** The arguments of the script WRITE, from the kind on. */
export function writeArguments(write: Write): string[] {
  const { kind, now } = write;
  switch (kind) {
    case 'claim':
      return [kind, ttlOf(write), write.machine, write.origin];
    case 'upsert': {
      const age = wholeAge(now - (write.createdAt ?? now), now);
      const generation = wholeGeneration(write.generation);
      return [kind, ttlOf(write), write.machine, write.origin, generation, age];
    }
    case 'rebind':
      return [kind, ttlOf(write), write.to, write.origin, '', '', write.from];
    case 'touch':
    case 'expireWithin':
      return [kind, ttlOf(write)];
    case 'delete':
      return [kind, '0', write.ifMachine ?? ''];
  }
}

function ttlOf({ ttlMs }: { readonly ttlMs: number }): string {
  return String(wholeTtlMs(ttlMs));
}

/** Clamps to the range between the epoch and now. */
function wholeAge(ageMs: number, now: number): string {
  return String(ageMs > 0 ? Math.min(Math.ceil(ageMs), now) : 0);
}

function wholeGeneration(generation: number): string {
  if (Number.isSafeInteger(generation) && generation >= 0) return String(generation);
  throw new StoreError('fatal', `a generation must be a whole number, got ${generation}`);
}

/** The response of the script WRITE: `1` or `0`, then the current binding. */
export function parseOutcome(key: SessionKey, reply: string, now: number): Outcome {
  const after = reply.slice('1 '.length);
  return {
    after: after === '' ? undefined : parseBinding(key, after, now),
    hasTakenEffect: reply.startsWith('1'),
  };
}

const SESSION_KEY_LENGTH = 32;
const ORIGINS: ReadonlySet<string> = new Set(EVICTION_ORDER);

/** The response of the script PAGE for each binding: its session key before it. */
export function parseRow(row: string, now: number): Binding {
  const key = parseSessionKey(row.slice(0, SESSION_KEY_LENGTH));
  if (key === undefined) throw unreadable();
  return parseBinding(key, row.slice(SESSION_KEY_LENGTH + 1), now);
}

/** As the scripts read it: see BINDING in scripts.ts. */
const STORED = /^([a-z]+) (\d+) (-?\d+) (\d+) ([a-z0-9]+)/;

/**
 * A stored binding, in times of the server. An invalid binding counts as absent, as in the scripts.
 */
export function parseStored(
  key: SessionKey,
  text: string,
  serverNow: number,
  now: number,
): Binding | 'absent' {
  const [, origin = '', generation, createdAt, expiresAt, machine = ''] = STORED.exec(text) ?? [];
  const owner = parseMachineId(machine);
  const remainingMs = Number(expiresAt) - serverNow;
  if (owner === undefined || !ORIGINS.has(origin) || !(remainingMs > 0)) return 'absent';
  return {
    key,
    machine: owner,
    origin: origin as BindingOrigin,
    generation: Number(generation),
    createdAt: now - Math.max(0, serverNow - Number(createdAt)),
    expiresAt: now + remainingMs,
  };
}

/** `TIME` returns seconds and µs. */
export function serverMs(time: unknown): number {
  const [seconds, micros] = Array.isArray(time) ? (time as unknown[]) : [];
  return Number(seconds) * 1_000 + Number(micros) / 1_000;
}

/** The server sends age and time left; this process's clock turns them into times. */
export function parseBinding(key: SessionKey, text: string, now: number): Binding {
  const [origin = '', generation, ageMs, remainingMs, machine] = text.split(' ');
  const owner = parseMachineId(machine ?? '');
  if (owner === undefined || !ORIGINS.has(origin)) throw unreadable();
  return {
    key,
    machine: owner,
    origin: origin as BindingOrigin,
    generation: Number(generation),
    createdAt: now - Math.max(0, Number(ageMs)),
    expiresAt: now + Number(remainingMs),
  };
}

function unreadable(): StoreError {
  return new StoreError(
    'fatal',
    'the Redis store holds an invalid binding; check that no other program writes to its keys',
  );
}
