/** The SQLite store by itself: its reads beside bare better-sqlite3, the event loop while it writes, its size. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { sessionKeyOf, type SessionId, type SessionKey } from '../../src/affinity/session.ts';
import type { MachineId } from '../../src/affinity/session.ts';
import { systemClock } from '../../src/clock.ts';
import { openSqliteStore } from '../../src/store/sqlite.ts';
import type { LocalStore } from '../../src/store/store.ts';
import type { Bench } from './bench.ts';
import { median } from './median.ts';
import { ratioOf, type Measurement, type Ratio, type Target } from './result.ts';

const MACHINE = 'e2865013d24908' as MachineId;
const HOUR_MS = 3_600_000;
/** Written together when a file is filled. */
const GROUP = 1_000;
const NEW_BINDINGS_PER_SECOND = 2_000;
const MICROS_PER_MS = 1_000;

/** What a lookup costs, hot and cold, beside the same read with bare better-sqlite3. */
export const benchLookup: Bench = async ({ effort, workspace }) => {
  const path = join(workspace.directory, 'lookup.sqlite');
  const keys = makeKeys('lookup', effort.storedSessions);
  // What was verified a second ago is no longer believed, so a leap of the clock makes all reads cold.
  let leapMs = 0;
  const store = await openStore(path, () => performance.now() + leapMs);
  await fill(store, keys);
  const bare = openBare(path);
  const buffers = keys.map((key) => Buffer.from(key, 'hex'));
  const lookup = (key: SessionKey): unknown => store.lookup(key);
  const candidates = {
    'bare better-sqlite3': () => readAll(buffers, bare.read),
    'cold lookup': () => {
      leapMs += 1_000;
      return readAll(keys, lookup);
    },
    'hot lookup': async () => {
      // A lookup may ask the writer thread what others wrote; it answers that before the metrics.
      await store.getMetrics();
      readAll(keys.slice(0, 1), lookup);
      await store.getMetrics();
      return readAll(keys, lookup);
    },
  };
  const measurements = await takeTurns(candidates, effort.rounds);
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
async function takeTurns(
  candidates: Readonly<Record<string, () => number | Promise<number>>>,
  rounds: number,
): Promise<Measurement[]> {
  const players = Object.entries(candidates).map(([candidate, measure]) => ({
    candidate,
    measure,
    values: [] as number[],
  }));
  for (let round = 0; round <= rounds; round += 1) {
    for (const { measure, values } of players) {
      const value = await measure();
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

/** The floor: the same row of the same file, with a key that is bytes already. */
function openBare(path: string) {
  const db = new Database(path, { readonly: true });
  const statement = db.prepare<[Buffer]>('SELECT * FROM sessions WHERE key = ?');
  return {
    read: (key: Buffer) => statement.get(key),
    close: () => void db.close(),
  };
}

/**
 * How long the event loop takes from turn to turn, at p99.9, idle and under a stream of new
 * bindings. The CPU time of its thread in such a turn tells what the store does to it from what
 * others do that run on the same cores.
 */
export const benchEventLoop: Bench = async ({ effort, workspace }) => {
  const store = await openStore(join(workspace.directory, 'event-loop.sqlite'));
  const bare = openBareWriter(join(workspace.directory, 'event-loop-bare.sqlite'));
  const candidates = {
    idle: () => undefined,
    'new bindings': (key: SessionKey) => claim(store, key),
    'bare on the event loop': bare.write,
  };
  const players = Object.entries(candidates).map(([candidate, write]) => ({
    candidate,
    write,
    turns: [] as LoopTurn[],
  }));
  for (let round = 0; round < effort.rounds; round += 1) {
    for (const { candidate, write, turns } of players) {
      turns.push(await slowTurnUnder(write, `${candidate}-${round}`, effort.turnMs));
    }
  }
  bare.close();
  await store.close();
  const measurements = players.map(({ candidate, turns }) => ({
    candidate,
    value: median(turns.map(({ wallMs }) => wallMs)),
    cpuMicros: median(turns.map(({ cpuMicros }) => cpuMicros)),
  }));
  const ratioToIdle = (candidate: string, target?: Target): Ratio => ({
    ...ratioOf(measurements, candidate, 'idle', target),
    byCpu: undefined,
  });
  return {
    title: `Turn of the event loop at p99.9, ${NEW_BINDINGS_PER_SECOND} new bindings a second`,
    unit: 'ms',
    perUnit: 'turn',
    measurements,
    ratios: [ratioToIdle('new bindings', { atMost: 1.5 }), ratioToIdle('bare on the event loop')],
  };
};

interface LoopTurn {
  readonly wallMs: number;
  /** Of the main thread alone. */
  readonly cpuMicros: number;
}

/** The turn that one of a thousand exceeds, by wall and by CPU time each. */
async function slowTurnUnder(
  write: (key: SessionKey) => unknown,
  prefix: string,
  lengthMs: number,
): Promise<LoopTurn> {
  const keys = makeKeys(prefix, (lengthMs * NEW_BINDINGS_PER_SECOND) / 1_000);
  const walls: number[] = [];
  const cpus: number[] = [];
  const startedAt = performance.now();
  let written = 0;
  let wallBefore = startedAt;
  let cpuBefore = threadCpuMicros();
  const timer = setInterval(() => {
    const wall = performance.now();
    const cpu = threadCpuMicros();
    walls.push(wall - wallBefore);
    cpus.push(cpu - cpuBefore);
    wallBefore = wall;
    cpuBefore = cpu;
    // By the time that has passed, so that a late turn makes up for what it missed.
    const due = ((wall - startedAt) * NEW_BINDINGS_PER_SECOND) / 1_000;
    for (const key of keys.slice(written, due)) write(key);
    written = Math.max(written, Math.floor(due));
  }, 1);
  await sleep(lengthMs);
  clearInterval(timer);
  return { wallMs: percentile999(walls), cpuMicros: percentile999(cpus) };
}

function threadCpuMicros(): number {
  const { user, system } = process.threadCpuUsage();
  return user + system;
}

function percentile999(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length * 0.999)] ?? Number.NaN;
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

function openStore(path: string, monotonicMs = () => performance.now()): Promise<LocalStore> {
  return openSqliteStore({
    path,
    clock: { ...systemClock, monotonicMs },
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
