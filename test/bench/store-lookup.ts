/**
 * The cost of a lookup in a large SQLite file, hot and cold, compared with the same read with plain
 * better-sqlite3.
 */
import type { SessionKey } from '../../src/session.ts';
import { systemClock, type Clock } from '../../src/clock.ts';
import type { SessionStore } from '../../src/store/store.ts';
import type { Bench, Stage } from './bench.ts';
import { costRatioOf, type Target } from './result.ts';
import { bytesOf, openBareReader } from './store-bare.ts';
import { filledFile, openFile, storedKey } from './store-sessions.ts';
import { takeTurns, type Turn } from './store-turns.ts';
import { openWrapped, STANDBY_ROOM } from './store-wrapped.ts';

const MICROS_PER_MS = 1_000;
/**
 * A turn is short, so that cached entries stay fresh for its duration: there are more turns
 * instead.
 */
const TURNS_PER_ROUND = 3;
/** Another process may have written by then, so no cached entry is used any more. */
const STALE_AFTER_MS = 1_000;
const BARE = 'bare better-sqlite3';

/**
 * Cold: a key that was not used recently, in a store that must read the file. Hot: the same key
 * again.
 */
export const benchLookup: Bench = async (stage) => {
  const { effort } = stage;
  const path = await filledFile(stage);
  const nextKeys = createDeck(effort.sessionsOnDisk, effort.lookups);
  const hotKeys = nextKeys();
  const readBare = openBareReader(stage, path);
  const plain = await openPlain(stage, path);
  const wrapped = await openInside(stage, path);
  const hot = await openPlain(stage, path);
  const hotWrapped = await openInside(stage, path);
  // So many that the cache holds as many as after a while in use.
  for (let read = 0; read < STANDBY_ROOM; read += effort.lookups) readCold(wrapped, nextKeys());
  const candidates = {
    [BARE]: () => readAll(bytesOf(nextKeys()), readBare),
    cold: () => readCold(plain, nextKeys()),
    'cold, resilient': () => readCold(wrapped, nextKeys()),
    hot: () => readHot(hot, hotKeys),
    'hot, resilient': () => readHot(hotWrapped, hotKeys),
  };
  const measurements = await takeTurns(candidates, effort.rounds * TURNS_PER_ROUND);
  const ratioToBare = (candidate: string, target?: Target) =>
    costRatioOf(measurements, candidate, BARE, target);
  return {
    title: `Lookup in SQLite with ${effort.sessionsOnDisk} sessions`,
    unit: 'µs',
    perUnit: 'lookup',
    measurements,
    ratios: [
      ratioToBare('cold', { atMost: 1.5 }),
      ratioToBare('cold, resilient', { atMost: 1.5 }),
      ratioToBare('hot'),
      ratioToBare('hot, resilient'),
    ],
  };
};

/** Returns the keys of the file in batches, and starts over after the last. */
function createDeck(total: number, count: number): () => SessionKey[] {
  let next = 0;
  return () =>
    Array.from({ length: count }, () => {
      const key = storedKey(next);
      next = (next + 1) % total;
      return key;
    });
}

/** A store, and a function that makes it read the file again for all that it has cached. */
interface Reader {
  readonly store: SessionStore;
  readonly forget: () => void;
}

async function openPlain(stage: Stage, path: string): Promise<Reader> {
  const { clock, forget } = createLeapingClock();
  const store = await openFile(path, { clock });
  stage.after(() => store.close());
  return { store, forget };
}

async function openInside(stage: Stage, path: string): Promise<Reader> {
  const { clock, forget } = createLeapingClock();
  const store = await openWrapped('sqlite', () => openFile(path, { clock }), { clock });
  stage.after(() => store.close());
  return { store, forget };
}

function createLeapingClock(): { clock: Clock; forget: () => void } {
  let leapMs = 0;
  const monotonicMs = (): number => performance.now() + leapMs;
  return { clock: { ...systemClock, monotonicMs }, forget: () => (leapMs += STALE_AFTER_MS) };
}

function readCold({ store, forget }: Reader, keys: readonly SessionKey[]): Turn {
  forget();
  return readAll(keys, (key) => store.lookup(key));
}

async function readHot({ store }: Reader, keys: readonly SessionKey[]): Promise<Turn> {
  const lookup = (key: SessionKey): unknown => store.lookup(key);
  // A lookup may query the writer thread for other processes' writes; it responds to that before
  // the metrics.
  readAll(keys.slice(0, 1), lookup);
  await store.getMetrics();
  readAll(keys, lookup);
  return readAll(keys, lookup);
}

/** µs per read, by wall time and by CPU time of this thread. */
function readAll<Key>(keys: readonly Key[], read: (key: Key) => unknown): Turn {
  const cpuBefore = process.threadCpuUsage();
  const startedAt = performance.now();
  for (const key of keys) {
    const found = read(key);
    if (typeof found !== 'object') throw new Error('a session is missing');
  }
  const micros = (performance.now() - startedAt) * MICROS_PER_MS;
  const { user, system } = process.threadCpuUsage(cpuBefore);
  return { value: micros / keys.length, cpuMicros: (user + system) / keys.length };
}
