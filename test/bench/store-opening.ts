/** How long a store with many sessions takes to open: until it has found one of them. */
import { copyFileSync, rmSync } from 'node:fs';
import Database from 'better-sqlite3';
import type { SessionStore } from '../../src/store/store.ts';
import type { Bench, Stage } from './bench.ts';
import { ratioOf, type Measurement, type Ratio } from './result.ts';
import { lengthenLog } from './store-log.ts';
import { copyOfFilled, filledFile, openFile, storedKey } from './store-sessions.ts';
import { takeTurns } from './store-turns.ts';
import { openWrapped } from './store-wrapped.ts';

const KEY = storedKey(0);
const MS_PER_SECOND = 1_000;

/**
 * Also after a crash that has left a write-ahead log of the maximum length, which must be read
 * completely.
 */
export const benchOpening: Bench = async (stage) => {
  const { effort } = stage;
  const path = await filledFile(stage);
  const crashed = await crashedFile(stage);
  const open = (): Promise<SessionStore> => openFile(path);
  const measurements = await takeTurns(
    {
      'bare better-sqlite3': () => measureBare(path),
      'the store': () => measure(stage, open),
      'the store, resilient': () => measure(stage, () => openWrapped('sqlite', open)),
      'the store, after a crash': () => {
        crashed.restore();
        return measure(stage, () => openFile(crashed.path));
      },
    },
    effort.rounds,
  );
  return {
    title: `Opening SQLite with ${effort.sessionsOnDisk} sessions`,
    unit: 'ms',
    perUnit: 'opening',
    measurements,
    ratios: [
      ...measurements.slice(1).map(inSeconds),
      ratioOf(measurements, 'the store', 'bare better-sqlite3'),
    ],
  };
};

function inSeconds({ candidate, value }: Measurement): Ratio {
  const seconds = value / MS_PER_SECOND;
  return {
    name: `seconds: ${candidate}`,
    value: seconds,
    byCpu: undefined,
    target: { atMost: 1 },
  };
}

function measureBare(path: string): number {
  const startedAt = performance.now();
  const db = new Database(path, { readonly: true });
  const row = db.prepare('SELECT * FROM sessions WHERE key = ?').get(Buffer.from(KEY, 'hex'));
  const ms = performance.now() - startedAt;
  db.close();
  if (row === undefined) throw new Error('a session is missing');
  return ms;
}

async function measure(stage: Stage, open: () => Promise<SessionStore>): Promise<number> {
  const startedAt = performance.now();
  const store = await open();
  stage.after(() => store.close());
  const found = await store.lookup(KEY);
  const ms = performance.now() - startedAt;
  await store.close();
  if (typeof found === 'string') throw new Error(`a session is ${found}`);
  return ms;
}

/** A file and its log as `kill -9` leaves them, copied again each time. */
async function crashedFile(stage: Stage): Promise<{ path: string; restore: () => void }> {
  const source = await copyOfFilled(stage, 'before-crash');
  const store = await openFile(source);
  stage.after(() => store.close());
  const release = await lengthenLog(stage, store, source, stage.effort.crashedLogBytes);
  const path = await copyOfFilled(stage, 'crashed');
  const kept = `${path}.kept`;
  copyFileSync(source, kept);
  copyFileSync(`${source}-wal`, `${kept}-wal`);
  release();
  await store.close();
  return {
    path,
    restore: () => {
      rmSync(`${path}-shm`, { force: true });
      for (const suffix of ['', '-wal']) copyFileSync(kept + suffix, path + suffix);
    },
  };
}
