/** What SQLite's errors mean for a store: the documented table of categories. */
import { StoreError } from '../store.ts';
import type { StoreErrorCode } from '../store.ts';

/**
 * By primary result code (https://www.sqlite.org/rescode.html); an extended one such as
 * `SQLITE_IOERR_WRITE` counts as its primary one, unless it is listed itself. What is not listed
 * is `fatal`.
 */
const CATEGORIES: readonly (readonly [code: string, category: StoreErrorCode, why: string])[] = [
  ['SQLITE_BUSY', 'passing', 'another process holds the lock'],
  ['SQLITE_LOCKED', 'passing', 'another statement holds the table'],
  ['SQLITE_PROTOCOL', 'passing', 'too many processes start at once'],
  ['SQLITE_INTERRUPT', 'passing', 'the statement was cut off'],
  ['SQLITE_NOMEM', 'passing', 'no memory now'],
  ['SQLITE_IOERR', 'passing', 'a disk that fails now may answer later'],
  ['SQLITE_IOERR_SHORT_READ', 'damaged', 'the file, or its log, was cut short'],
  ['SQLITE_IOERR_SHMSIZE', 'full', 'no room for the index of the log'],
  ['SQLITE_IOERR_CORRUPTFS', 'fatal', 'the file system is damaged'],
  ['SQLITE_FULL', 'full', 'the disk, or the file at its maximum size'],
  ['SQLITE_CORRUPT', 'damaged', 'the file is damaged'],
  ['SQLITE_NOTADB', 'damaged', 'the file is not a database'],
  ['SQLITE_ERROR', 'damaged', 'the tables are no longer as they were when the file was opened'],
  ['SQLITE_READONLY', 'fatal', 'the file may not be written'],
  ['SQLITE_READONLY_DBMOVED', 'damaged', 'the file is no longer where it was'],
  ['SQLITE_CANTOPEN', 'fatal', 'the file may not be opened'],
  ['SQLITE_PERM', 'fatal', 'the file may not be opened'],
];

const CATEGORY_BY_CODE = new Map(CATEGORIES.map(([code, category]) => [code, category]));

/**
 * Damage to the connection, and none that is known to the file: the path leads to another one, or
 * somebody changed its tables. Whoever opens the path anew will see.
 */
export class StaleFileError extends StoreError {
  constructor(message: string, options?: ErrorOptions) {
    super('damaged', message, options);
  }
}

/** `doing` says what failed, as in `store claim`. A {@link StoreError} says so itself. */
export function toSqliteStoreError(doing: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  const message = `${doing} failed: ${reason}`;
  if (isLogicError(error)) return new StaleFileError(message, { cause: error });
  return new StoreError(categoryOf(sqliteCode(error)), message, { cause: error });
}

/** Whether another connection holds the lock that was needed: nothing was written, and waiting helps. */
export function isBusy(error: unknown): boolean {
  return /^SQLITE_(BUSY|LOCKED)/.test(sqliteCode(error));
}

/** Whether a statement names what is not there: a table, a column. */
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
