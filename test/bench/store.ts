/** The SQLite store by itself: its reads beside bare better-sqlite3, the event loop while it writes, its size. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { sessionKeyOf, type SessionId, type SessionKey } from '../../src/affinity/session.ts';
import type { MachineId } from '../../src/affinity/session.ts';
import { systemClock } from '../../src/clock.ts';
import { openSqliteStore } from '../../src/store/sqlite.ts';
import type { LocalStore } from '../../src/store/store.ts';
import type { Bench } from './bench.ts';
import { median } from './median.ts';
import { ratioOf, type Measurement } from './result.ts';

const MACHINE = 'e2865013d24908' as MachineId;
const HOUR_MS = 3_600_000;
/** Written together when a file is filled. */
const GROUP = 1_000;
const NEW_BINDINGS_PER_SECOND = 2_000;
const TICK_MS = 5;
const MICROS_PER_MS = 1_000;
const NANOS_PER_MS = 1e6;

/** What a lookup costs, hot and cold, beside the same read with bare better-sqlite3. */
export const benchLookup: Bench = async ({ effort, workspace }) => {
  const path = join(workspace.directory, 'lookup.sqlite');
  const keys = makeKeys('lookup', effort.storedSessions);
  // What was read a second ago is no longer hot, so each turn begins a second later.
  let turn = 0;
  const store = await openStore(path, () => Date.now() + turn * 1_000);
  await fill(store, keys);
  const bare = openBare(path);
  const buffers = keys.map((key) => Buffer.from(key, 'hex'));
  const hotKeys = repeat(keys.slice(0, 1_000), keys.length);
  const lookup = (key: SessionKey): unknown => store.lookup(key);
  const candidates = {
    'bare better-sqlite3': () => readAll(buffers, bare.read),
    'cold lookup': () => readAll(keys, lookup),
    'hot lookup': () => readAll(hotKeys, lookup),
  };
  const measurements = takeTurns(candidates, effort.rounds, () => (turn += 1));
  bare.close();
  await store.close();
  return {
    title: `Lookup in SQLite with ${keys.length} sessions`,
    unit: 'µs',
    perUnit: 'lookup',
    measurements,
    ratios: [
      ratioOf(measurements, 'cold lookup', 'bare better-sqlite3', { atMost: 1.5 }),
      ratioOf(measurements, 'hot lookup', 'bare better-sqlite3'),
    ],
  };
};

/** Turns of each candidate, alternating; the first of each warms it up and does not count. */
function takeTurns(
  candidates: Readonly<Record<string, () => number>>,
  rounds: number,
  onTurn: () => void,
): Measurement[] {
  const players = Object.entries(candidates).map(([candidate, measure]) => ({
    candidate,
    measure,
    values: [] as number[],
  }));
  for (let round = 0; round <= rounds; round += 1) {
    for (const { measure, values } of players) {
      onTurn();
      const value = measure();
      if (round > 0) values.push(value);
    }
  }
  return players.map(({ candidate, values }) => measurementOf(candidate, values));
}

/** µs per read. */
function readAll<Key>(keys: readonly Key[], read: (key: Key) => unknown): number {
  const startedAt = performance.now();
  for (const key of keys) {
    const found = read(key);
    if (found === undefined || found === 'absent') throw new Error('a session is missing');
  }
  return ((performance.now() - startedAt) * MICROS_PER_MS) / keys.length;
}

function repeat<Item>(items: readonly Item[], count: number): Item[] {
  return Array.from({ length: count }, (_, index) => items[index % items.length] as Item);
}

/** The floor: the same row of the same file, with a key that is bytes already. */
function openBare(path: string) {
  const db = new Database(path, { readonly: true });
  const statement = db.prepare<[Buffer]>('SELECT * FROM sessions WHERE key = ?');
  return {
    read: (key: Buffer) => statement.get(key),
    close: () => void db.close(),
  };
}

/** How late timers are, at p99.9, idle and under a stream of new bindings. */
export const benchEventLoop: Bench = async ({ effort, workspace }) => {
  const store = await openStore(join(workspace.directory, 'event-loop.sqlite'));
  const bare = openBareWriter(join(workspace.directory, 'event-loop-bare.sqlite'));
  const candidates = {
    idle: () => undefined,
    'new bindings': (key: SessionKey) => claim(store, key),
    'bare on the event loop': bare.write,
  };
  const delays = Object.keys(candidates).map((candidate) => ({
    candidate,
    values: [] as number[],
  }));
  for (let round = 0; round < effort.rounds; round += 1) {
    for (const [index, write] of Object.values(candidates).entries()) {
      delays[index]?.values.push(await delayUnder(write, `${round}-${index}`, effort.turnMs));
    }
  }
  bare.close();
  await store.close();
  const measurements = delays.map(({ candidate, values }) => measurementOf(candidate, values));
  return {
    title: `Delay of the event loop at p99.9, ${NEW_BINDINGS_PER_SECOND} new bindings a second`,
    unit: 'ms',
    perUnit: 'turn',
    measurements,
    ratios: [
      ratioOf(measurements, 'new bindings', 'idle', { atMost: 1.5 }),
      ratioOf(measurements, 'bare on the event loop', 'idle'),
    ],
  };
};

async function delayUnder(
  write: (key: SessionKey) => unknown,
  prefix: string,
  turnMs: number,
): Promise<number> {
  const perTick = (NEW_BINDINGS_PER_SECOND * TICK_MS) / 1_000;
  const keys = makeKeys(prefix, Math.ceil((turnMs / TICK_MS) * perTick) + perTick);
  const delays = monitorEventLoopDelay({ resolution: 1 });
  let written = 0;
  delays.enable();
  const startedAt = performance.now();
  const timer = setInterval(() => {
    // By the time that has passed, so that a late timer makes up for what it missed.
    const due = ((performance.now() - startedAt) * NEW_BINDINGS_PER_SECOND) / 1_000;
    for (; written < due; written += 1) write(keys[written] ?? sessionKey(`${prefix}-${written}`));
  }, TICK_MS);
  await sleep(turnMs);
  clearInterval(timer);
  delays.disable();
  return delays.percentile(99.9) / NANOS_PER_MS;
}

function openBareWriter(path: string) {
  const db = new Database(path);
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = NORMAL');
  db.exec(
    'CREATE TABLE sessions (key BLOB PRIMARY KEY, machine TEXT, expires_at INTEGER) WITHOUT ROWID',
  );
  const upsert = db.prepare('INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)');
  return {
    write: (key: SessionKey) => upsert.run(Buffer.from(key, 'hex'), MACHINE, Date.now()),
    close: () => void db.close(),
  };
}

/** What a session takes on disk, indexes included, once the write-ahead log is emptied. */
export const benchStoreSize: Bench = async ({ effort, workspace }) => {
  const path = join(workspace.directory, 'size.sqlite');
  const store = await openStore(path);
  await fill(store, makeKeys('size', effort.storedSessions));
  await store.close();
  const value = statSync(path).size / effort.storedSessions;
  return {
    title: `SQLite file with ${effort.storedSessions} sessions`,
    unit: 'bytes',
    perUnit: 'session',
    measurements: [{ candidate: 'session', value, cpuMicros: undefined }],
    ratios: [{ name: 'bytes', value, byCpu: undefined, target: { atMost: 100 } }],
  };
};

function openStore(path: string, now: () => number = Date.now): Promise<LocalStore> {
  return openSqliteStore({
    path,
    clock: { ...systemClock, now },
    limits: { maxSessions: 10_000_000, maxAgeMs: 0 },
    retryCount: 3,
    retryDelayMs: 100,
    random: Math.random,
  });
}

async function fill(store: LocalStore, keys: readonly SessionKey[]): Promise<void> {
  for (let start = 0; start < keys.length; start += GROUP) {
    await Promise.all(keys.slice(start, start + GROUP).map((key) => claim(store, key)));
  }
}

function claim(store: LocalStore, key: SessionKey): Promise<unknown> {
  return store.claim({ key, machine: MACHINE, origin: 'learned', ttlMs: HOUR_MS });
}

function makeKeys(prefix: string, count: number): SessionKey[] {
  return Array.from({ length: count }, (_, index) => sessionKey(`${prefix}-${index}`));
}

function sessionKey(text: string): SessionKey {
  return sessionKeyOf(text as SessionId);
}

function measurementOf(candidate: string, values: readonly number[]): Measurement {
  return { candidate, value: median(values), cpuMicros: undefined };
}
