/** What SQLite's errors mean for a store: the documented table of categories. */
import { StoreError } from '../store.ts';
import type { StoreErrorCode } from '../store.ts';

/**
 * By primary result code (https://www.sqlite.org/rescode.html); an extended one such as
 * `SQLITE_IOERR_WRITE` counts as its primary one, unless it is listed itself. Everything else is
 * `fatal`.
 */
const CATEGORIES: readonly (readonly [code: string, category: StoreErrorCode, why: string])[] = [
  ['SQLITE_BUSY', 'passing', 'another process holds the lock'],
  ['SQLITE_LOCKED', 'passing', 'another statement holds the table'],
  ['SQLITE_PROTOCOL', 'passing', 'too many processes start at once'],
  ['SQLITE_INTERRUPT', 'passing', 'the statement was cancelled'],
  ['SQLITE_NOMEM', 'passing', 'out of memory'],
  ['SQLITE_IOERR', 'passing', 'a disk error, which may be temporary'],
  ['SQLITE_IOERR_SHORT_READ', 'damaged', 'the file, or its log, was truncated'],
  ['SQLITE_IOERR_SHMSIZE', 'full', 'no room for the index of the log'],
  ['SQLITE_IOERR_CORRUPTFS', 'fatal', 'the file system is damaged'],
  ['SQLITE_FULL', 'full', 'the disk is full, or the file is at its maximum size'],
  ['SQLITE_CORRUPT', 'damaged', 'the file is damaged'],
  ['SQLITE_NOTADB', 'damaged', 'the file is not a database'],
  ['SQLITE_ERROR', 'damaged', 'the tables changed after the file was opened'],
  ['SQLITE_READONLY', 'fatal', 'the file is not writable'],
  ['SQLITE_READONLY_DBMOVED', 'damaged', 'the file was moved or deleted'],
  ['SQLITE_CANTOPEN', 'fatal', 'the file cannot be opened'],
  ['SQLITE_PERM', 'fatal', 'the file cannot be opened'],
];

const CATEGORY_BY_CODE = new Map(CATEGORIES.map(([code, category]) => [code, category]));

/**
 * Damage of the connection, not known of the file: the path leads to another file, or its tables
 * were changed. Opening the path again shows which.
 */
export class StaleFileError extends StoreError {
  constructor(message: string, options?: ErrorOptions) {
    super('damaged', message, options);
  }
}

/**
 * `doing` names the operation that failed, as in `store claim`. A {@link StoreError} passes
 * unchanged.
 */
export function toSqliteStoreError(doing: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  const message = `${doing} failed: ${reason}`;
  if (isLogicError(error)) return new StaleFileError(message, { cause: error });
  return new StoreError(categoryOf(sqliteCode(error)), message, { cause: error });
}

/** Whether another connection holds the needed lock: nothing was written, and waiting helps. */
export function isBusy(error: unknown): boolean {
  return /^SQLITE_(BUSY|LOCKED)/.test(sqliteCode(error));
}

/** Whether a statement names a missing table or column. */
export function isLogicError(error: unknown): boolean {
  return sqliteCode(error) === 'SQLITE_ERROR';
}

export function isIoError(error: unknown): boolean {
  return sqliteCode(error).startsWith('SQLITE_IOERR');
}

/** The result code of an error of better-sqlite3; empty for any other. */
function sqliteCode(error: unknown): string {
  const isCoded = error instanceof Error && 'code' in error && typeof error.code === 'string';
  return isCoded ? String(error.code) : '';
}

function categoryOf(code: string): StoreErrorCode {
  const primary = /^SQLITE_[A-Z]+/.exec(code)?.[0] ?? '';
  return CATEGORY_BY_CODE.get(code) ?? CATEGORY_BY_CODE.get(primary) ?? 'fatal';
}
