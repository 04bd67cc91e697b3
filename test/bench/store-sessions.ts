/** Sessions for the store benches, and the SQLite file full of them that these share. */
import { copyFileSync, existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import Database from 'better-sqlite3';
import {
  sessionKeyOf,
  type Binding,
  type MachineId,
  type SessionId,
  type SessionKey,
} from '../../src/session.ts';
import { systemClock } from '../../src/clock.ts';
import { openSqliteStore, type SqliteStoreOptions } from '../../src/store/sqlite/sqlite.ts';
import { createSessionTable } from '../../src/store/sqlite/table.ts';
import type { LocalStore, SessionStore } from '../../src/store/store.ts';
import type { Stage } from './bench.ts';
import type { Effort } from './effort.ts';

export const MACHINE = 'e2865013d24908' as MachineId;
export const HOUR_MS = 3_600_000;
/** A limit that no bench can reach. */
export const LIMITS = { maxSessions: 10_000_000, maxAgeMs: 0 };

/** The key of a session in the file, by its number. */
export function storedKey(number: number): SessionKey {
  return sessionKey(`stored-${number}`);
}

export function anyStoredKey({ sessionsOnDisk }: Effort): SessionKey {
  return storedKey(Math.floor(Math.random() * sessionsOnDisk));
}

export function makeKeys(prefix: string, count: number): SessionKey[] {
  return Array.from({ length: count }, (_, index) => sessionKey(`${prefix}-${index}`));
}

export function sessionKey(text: string): SessionKey {
  return sessionKeyOf(text as SessionId);
}

/**
 * The path of a file with `effort.sessionsOnDisk` sessions, filled at the first call. Not to be
 * written to: see {@link copyOfFilled}. The sessions expire in the order of their numbers, evenly
 * from an hour after the filling to two hours after it.
 */
export async function filledFile({ effort, workspace }: Stage): Promise<string> {
  const path = join(workspace.directory, 'filled.sqlite');
  if (existsSync(path)) return path;
  const unfinished = `${path}.new`;
  await (await openFile(unfinished)).close();
  await fill(unfinished, effort.sessionsOnDisk);
  renameSync(unfinished, path);
  return path;
}

export async function copyOfFilled(stage: Stage, name: string): Promise<string> {
  const path = join(stage.workspace.directory, `${name}.sqlite`);
  copyFileSync(await filledFile(stage), path);
  return path;
}

/** Rows written together. */
const GROUP = 10_000;

/**
 * Not through the store, for speed. The rows have the order that claims would produce: random keys,
 * ascending expiry, so that the pages are as full as claims would leave them.
 */
async function fill(path: string, count: number): Promise<void> {
  const db = new Database(path);
  db.pragma('synchronous = OFF');
  db.pragma('cache_size = -500000');
  const table = createSessionTable(db);
  const now = Date.now();
  const write = db.transaction((first: number, end: number) => {
    for (let number = first; number < end; number += 1) {
      table.put(storedBinding(number, now, Math.floor((number * HOUR_MS) / count)));
    }
  });
  for (let first = 0; first < count; first += GROUP) {
    write(first, Math.min(first + GROUP, count));
    // So that the bench can be interrupted.
    await nextTurn();
  }
  db.close();
}

function storedBinding(number: number, now: number, ageMs: number): Binding {
  const createdAt = now + ageMs;
  const origin = 'learned';
  const expiresAt = createdAt + HOUR_MS;
  return {
    key: storedKey(number),
    machine: MACHINE,
    origin,
    generation: 1,
    createdAt,
    expiresAt,
  };
}

/** A file's store, whose writes another connection may block for as long as a bench lasts. */
export function openFile(
  path: string,
  options: Partial<SqliteStoreOptions> = {},
): Promise<LocalStore> {
  return openSqliteStore({
    path,
    clock: systemClock,
    limits: LIMITS,
    retryCount: 100,
    retryDelayMs: 100,
    random: Math.random,
    ...options,
  });
}

export function claim(store: SessionStore, key: SessionKey): Promise<Binding> {
  return store.claim({ key, machine: MACHINE, origin: 'learned', ttlMs: HOUR_MS });
}

/** As many of them in progress at once as there are connections. */
export async function performAll<Item>(
  items: readonly Item[],
  atOnce: number,
  perform: (item: Item) => Promise<unknown>,
): Promise<void> {
  const left = items.values();
  const performInTurn = async (): Promise<void> => {
    for (const item of left) await perform(item);
  };
  await Promise.all(Array.from({ length: atOnce }, performInTurn));
}
