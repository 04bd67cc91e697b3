/**
 * Checks whether the open files are still those at their path. SQLite keeps writing to files that
 * were deleted, moved or replaced, and the next process that opens the path does not see these
 * commits
 * (https://www.sqlite.org/howtocorrupt.html#_unlinking_or_renaming_a_database_file_while_in_use). A
 * check takes 3 µs, a commit ten times as long.
 */
import { Buffer } from 'node:buffer';
import {
  closeSync,
  existsSync,
  openSync,
  readSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import { StoreError } from '../store.ts';
import { isLogicError, StaleFileError } from './errors.ts';
import { APPLICATION_ID } from './schema.ts';

/** Identifies a file while it is open: its inode is not reused before it is closed. */
export type Inode = string;

/** A commit is in the log first, and lost with it. */
export interface OpenedFiles {
  readonly database: Inode;
  readonly log: Inode | undefined;
}

/**
 * The page cache of a connection, in KiB; the check of a file alone would fill better-sqlite3's
 * default of 16,000. A commit of 500 sessions needs more but still writes no page twice, and the
 * kernel caches what is read again.
 */
const PAGE_CACHE_KIB = 1_000;

/** Undefined if the file does not exist. Throws if that can't be determined. */
export function inodeOf(path: string): Inode | undefined {
  const found = statSync(path, { bigint: true, throwIfNoEntry: false });
  return found && `${found.dev}:${found.ino}`;
}

export function logOf(path: string): string {
  return `${path}-wal`;
}

export function haveMoved(path: string, { database, log }: OpenedFiles): boolean {
  return isElsewhere(path, database) || isElsewhere(logOf(path), log);
}

function isElsewhere(path: string, inode: Inode | undefined): boolean {
  try {
    return inodeOf(path) !== inode;
  } catch {
    // The permission to stat was removed: the file may well exist, and still be writable.
    return false;
  }
}

/** Opens that file and no other. Throws a {@link StaleFileError}, and SQLite's errors. */
export function openInPlace(
  path: string,
  database: Inode,
  options: Database.Options,
): Database.Database {
  if (isElsewhere(path, database)) throw fileMoved(path);
  const db = new Database(path, { ...options, fileMustExist: true });
  try {
    db.pragma(`cache_size = -${PAGE_CACHE_KIB}`);
    // Opens the log, which SQLite finds only by its name, so that the check covers both.
    db.pragma('user_version');
    if (isElsewhere(path, database)) throw fileMoved(path);
    return db;
  } catch (error) {
    db.close();
    if (!isLogicError(error)) throw error;
    // These name no table: the header asks for another version of SQLite.
    const reason = error instanceof Error ? error.message : String(error);
    throw new StoreError('damaged', `its header is damaged (${reason})`, { cause: error });
  }
}

export function fileMoved(path: string): StaleFileError {
  return new StaleFileError(
    `session store ${JSON.stringify(path)}: the open file, or its log, is no longer ` +
      'there (deleted, moved or replaced); the changes in it are lost',
  );
}

/** Bounds disk use: each may be as large as the store. */
const MAX_KEPT = 3;
const LOG_SUFFIXES = ['-wal', '-shm'];
/** The file last: a new one must find neither log nor index, or it would use them as its own. */
const SUFFIXES = [...LOG_SUFFIXES, ''];

/**
 * Returns where the file is now; undefined if it is no longer the one at the path, because another
 * process was faster. Call it when no connection of this process has it open; a connection of
 * another process finds it moved. Synchronous, to minimize the time between check and rename.
 * Throws the file system's errors.
 */
export function quarantineFile(path: string, opened: OpenedFiles, now: number): string | undefined {
  if (isElsewhere(path, opened.database)) return undefined;
  return rename(path, SUFFIXES, now);
}

/**
 * The same for the log of a file that no longer exists: a new file at the path would use the log as
 * its own.
 */
export function quarantineLog(path: string, opened: OpenedFiles, now: number): void {
  const isOrphan = isElsewhere(path, opened.database) && !isElsewhere(logOf(path), opened.log);
  if (isOrphan) rename(path, LOG_SUFFIXES, now);
}

function rename(path: string, suffixes: readonly string[], now: number): string {
  const quarantined = freeName(path, now);
  for (const suffix of suffixes) {
    if (existsSync(path + suffix)) renameSync(path + suffix, quarantined + suffix);
  }
  removeOldest(path, quarantined);
  return quarantined;
}

/** Sorts by time. Never an existing name: a rename would replace that file. */
function freeName(path: string, now: number): string {
  const time = new Date(now).toISOString().replaceAll(/[-:]/g, '');
  const name = `${path}.damaged-${time}`;
  return SUFFIXES.some((suffix) => existsSync(name + suffix)) ? freeName(path, now + 1) : name;
}

/** The newest quarantined file stays, whatever names a wrong clock has given the others. */
function removeOldest(path: string, kept: string): void {
  const stem = `${path}.damaged-`;
  const quarantinedFiles = new Set<string>();
  for (const name of readdirSync(dirname(path))) {
    const found = /^(.+\.damaged-\d{8}T\d{6}\.\d{3}Z)(-wal|-shm)?$/.exec(name)?.[1];
    if (found) quarantinedFiles.add(join(dirname(path), found));
  }
  const others = [...quarantinedFiles]
    .filter((each) => each.startsWith(stem) && each !== kept)
    .sort();
  for (const oldest of others.slice(0, 1 - MAX_KEPT)) {
    for (const suffix of SUFFIXES) rmSync(oldest + suffix, { force: true });
  }
}

/** https://www.sqlite.org/fileformat.html#the_database_header */
const MAGIC = Buffer.from('SQLite format 3\0', 'latin1');
const APPLICATION_ID_AT = 68;
const HEADER_BYTES = 100;

/**
 * Whether a file that is not a sound database was one of ours, by what is left of its header: our
 * application id, or zeros only, as a crashed computer leaves them, or nothing but SQLite's first
 * bytes. Any other file may be valuable to its owner. Call it when no connection of this process
 * has the file open: closing it releases their locks.
 */
export function wasOurs(path: string): boolean {
  const header = readHeader(path);
  if (header.every((byte) => byte === 0)) return true;
  if (header.length >= APPLICATION_ID_AT + 4) {
    return header.readInt32BE(APPLICATION_ID_AT) === APPLICATION_ID;
  }
  return header.subarray(0, MAGIC.length).equals(MAGIC.subarray(0, header.length));
}

function readHeader(path: string): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  const descriptor = openSync(path, 'r');
  try {
    return header.subarray(0, readSync(descriptor, header, 0, HEADER_BYTES, 0));
  } finally {
    closeSync(descriptor);
  }
}
