/** A directory for the files of one test, and the stores in it. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Worker } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { systemClock } from '../../src/clock.ts';
import { openSqliteStore, type SqliteStoreOptions } from '../../src/store/sqlite/sqlite.ts';
import type { LocalStore } from '../../src/store/store.ts';

export interface Place {
  readonly directory: string;
  /** The path of a file in it. */
  path(name?: string): string;
  /** Opens a store in it, which is closed after the test, before the directory is removed. */
  open(options?: Partial<SqliteStoreOptions>): Promise<LocalStore>;
  /** The same for anything else that must not outlive the test. */
  closeAfterwards(closeable: { close(): unknown }): void;
}

export async function createPlace(t: TestContext): Promise<Place> {
  const directory = await mkdtemp(join(tmpdir(), 'fly-affinity-'));
  const opened: { close(): unknown }[] = [];
  t.after(async () => {
    for (const each of opened.reverse()) await each.close();
    await rm(directory, { recursive: true });
  });
  const path = (name = 'store.sqlite'): string => join(directory, name);
  return {
    directory,
    path,
    closeAfterwards: (closeable) => void opened.push(closeable),
    open: async (options = {}) => {
      const store = await openSqliteStore({
        path: path(),
        clock: systemClock,
        limits: { maxSessions: 1_000_000, maxAgeMs: 0 },
        retryCount: 3,
        retryDelayMs: 1,
        random: Math.random,
        ...options,
      });
      opened.push(store);
      return store;
    },
  };
}

/** Holds the write lock of the place's file, as a process with a long write does. */
export function holdWriteLock(place: Place): { release(): void } {
  const db = new Database(place.path());
  place.closeAfterwards(db);
  db.exec('BEGIN IMMEDIATE');
  return { release: () => void db.exec('ROLLBACK') };
}

/** Node emits an event for every thread that starts. */
export async function nextWorker(): Promise<Worker> {
  const [worker] = (await once(process, 'worker')) as [Worker];
  return worker;
}
