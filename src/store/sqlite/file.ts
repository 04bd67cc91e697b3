/**
 * Whether the files that were opened are still those at their path. SQLite writes on into files that
 * were deleted, moved or replaced, and what it commits there is lost to whoever opens the path next
 * (https://www.sqlite.org/howtocorrupt.html#_unlinking_or_renaming_a_database_file_while_in_use).
 * A look takes 3 µs, a commit ten times as long.
 */
import { statSync } from 'node:fs';
import Database from 'better-sqlite3';
import { StaleFileError } from './errors.ts';

/** Tells one file from another for as long as the one is open: no inode is given twice till then. */
export type Inode = string;

/** A commit is in the log first, and lost with it. */
export interface OpenedFiles {
  readonly database: Inode;
  readonly log: Inode | undefined;
}

/**
 * Pages that a connection keeps, in KiB; better-sqlite3's default of 16,000 is filled by the check of
 * a file alone. A commit of 500 sessions needs more and writes no page twice all the same, and what is
 * read again is in the kernel's cache.
 */
const PAGE_CACHE_KIB = 1_000;

/** Undefined if nothing is there. Throws if it can't be told. */
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

export function isElsewhere(path: string, inode: Inode | undefined): boolean {
  try {
    return inodeOf(path) !== inode;
  } catch {
    // Somebody took the right to look: it may well be there, and can still be written.
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
    // Opens the log, which SQLite finds by its name only, so that the look is at both.
    db.pragma('user_version');
    if (isElsewhere(path, database)) throw fileMoved(path);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

export function fileMoved(path: string): StaleFileError {
  return new StaleFileError(
    `session store ${JSON.stringify(path)}: the file that was opened, or its log, is no longer ` +
      'there (deleted, moved or replaced); what only it held is lost',
  );
}
