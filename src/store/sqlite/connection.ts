/**
 * The writing connection: to a file that is present, sound, of our schema, in WAL mode and
 * writable.
 */
import Database from 'better-sqlite3';
import { isBusy, isLogicError } from './errors.ts';
import { fileMoved, inodeOf, logOf, openInPlace } from './file.ts';
import type { Inode, OpenedFiles } from './file.ts';
import type { WriterSettings } from './protocol.ts';
import { migrateSqlite, SQLITE_SCHEMA_VERSION } from './schema.ts';
import { createTransactions } from './transactions.ts';
import type { Transactions } from './transactions.ts';
import { StoreError } from '../store.ts';

/** Twenty processes migrate within milliseconds; on a slow disk it takes longer. */
const START_BUSY_TIMEOUT_MS = 10_000;
/** One attempt's wait for the write lock. The main thread, which has the clock, retries. */
const WRITE_BUSY_TIMEOUT_MS = 1_000;
/** Each failed attempt waits for the process that holds the lock, so a few would do. */
const MAX_WAL_ATTEMPTS = 50;
/** A write-ahead log that a burst made longer is cut to this when it restarts. */
const MAX_IDLE_WAL_BYTES = 16 * 1024 * 1024;
/**
 * About 100,000 sessions, checked in 20 ms. A check reads the whole file, which takes seconds for a
 * larger one on a small Machine's volume; there, reads and writes find damage as they meet it.
 */
const MAX_CHECKED_BYTES = 8 * 1024 * 1024;

export interface OpenedForWriting {
  readonly files: OpenedFiles;
  readonly transactions: Transactions;
}

/** Throws a {@link StoreError} or SQLite's errors; then nothing is left open. */
export function openForWriting(settings: WriterSettings): OpenedForWriting {
  const { path } = settings;
  const database = settings.database ?? inodeOf(path) ?? create(path);
  const db = openInPlace(path, database, { timeout: START_BUSY_TIMEOUT_MS });
  try {
    migrateSqlite(db);
    switchToWal(db);
    // In WAL mode a crash of the process loses nothing; a power cut takes the app's memory too.
    db.pragma('synchronous = NORMAL');
    db.pragma(`journal_size_limit = ${MAX_IDLE_WAL_BYTES}`);
    checkSmall(db);
    probeWriting(db);
    const transactions = createTransactions(db, settings);
    db.pragma(`busy_timeout = ${WRITE_BUSY_TIMEOUT_MS}`);
    return { files: { database, log: inodeOf(logOf(path)) }, transactions };
  } catch (error) {
    const found = isLogicError(error) ? missingTables(db, error) : error;
    db.close();
    throw found;
  }
}

function create(path: string): Inode {
  new Database(path).close();
  const database = inodeOf(path);
  if (database === undefined) throw fileMoved(path);
  return database;
}

/**
 * SQLite reports "busy" at once, without the busy timeout, if two processes would deadlock. Then
 * taking the write lock waits until the other one is done.
 */
function switchToWal(db: Database.Database): void {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const mode = db.pragma('journal_mode = WAL', { simple: true });
      if (mode === 'wal') return;
      throw new StoreError('fatal', `its file system allows no write-ahead log (${String(mode)})`);
    } catch (error) {
      if (!isBusy(error) || attempt === MAX_WAL_ATTEMPTS) throw error;
      takeWriteLock(db);
    }
  }
}

function checkSmall(db: Database.Database): void {
  const pageCount = Number(db.pragma('page_count', { simple: true }));
  const pageBytes = Number(db.pragma('page_size', { simple: true }));
  if (pageCount * pageBytes > MAX_CHECKED_BYTES) return;
  const found = db.pragma('quick_check(1)', { simple: true });
  if (found === 'ok') return;
  // The first line says where, the second what.
  const what = String(found).split('\n').at(-1) ?? '';
  throw new StoreError('damaged', `SQLite's check found: ${what}`);
}

/**
 * SQLite opens a read-only file without an error; so test a write, unless another process is
 * writing.
 */
function probeWriting(db: Database.Database): void {
  db.pragma('busy_timeout = 0');
  try {
    takeWriteLock(db);
  } catch (error) {
    if (!isBusy(error)) throw error;
  }
}

function takeWriteLock(db: Database.Database): void {
  db.exec('BEGIN IMMEDIATE; ROLLBACK');
}

/**
 * Our statements are correct for a schema that we know: a missing column or table was there before.
 */
function missingTables(db: Database.Database, cause: unknown): StoreError {
  const version = Number(db.pragma('user_version', { simple: true }));
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new StoreError(
    version <= SQLITE_SCHEMA_VERSION ? 'damaged' : 'fatal',
    `its tables are not those of version ${version} (${reason})`,
    { cause },
  );
}
