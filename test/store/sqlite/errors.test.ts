import assert from 'node:assert/strict';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { isBusy, toSqliteStoreError } from '../../../src/store/sqlite/errors.ts';
import { StoreError } from '../../../src/store/store.ts';

const cases: [code: string, category: string][] = [
  ['SQLITE_BUSY', 'passing'],
  ['SQLITE_BUSY_RECOVERY', 'passing'],
  ['SQLITE_LOCKED', 'passing'],
  ['SQLITE_IOERR', 'passing'],
  ['SQLITE_IOERR_WRITE', 'passing'],
  ['SQLITE_IOERR_CORRUPTFS', 'fatal'],
  ['SQLITE_IOERR_SHORT_READ', 'damaged'],
  ['SQLITE_IOERR_SHMSIZE', 'full'],
  ['SQLITE_FULL', 'full'],
  ['SQLITE_CORRUPT', 'damaged'],
  ['SQLITE_CORRUPT_INDEX', 'damaged'],
  ['SQLITE_NOTADB', 'damaged'],
  ['SQLITE_ERROR', 'damaged'],
  ['SQLITE_READONLY', 'fatal'],
  ['SQLITE_READONLY_DBMOVED', 'damaged'],
  ['SQLITE_CONSTRAINT_DATATYPE', 'fatal'],
  ['SQLITE_SOMETHING_NEW', 'fatal'],
];
for (const [code, category] of cases) {
  test(`${code} is ${category}`, () => {
    const cause = new Database.SqliteError('what SQLite says', code);
    const error = toSqliteStoreError('store claim', cause);
    assert.equal(error.code, category);
    assert.equal(error.message, 'store claim failed: what SQLite says');
    assert.equal(error.cause, cause);
    assert.equal(isBusy(cause), /BUSY|LOCKED/.test(code));
  });
}

test('returns an error of the store unchanged, any other as fatal', () => {
  const known = new StoreError('full', 'no room');
  assert.equal(toSqliteStoreError('store claim', known), known);
  assert.equal(toSqliteStoreError('store claim', new TypeError('odd')).code, 'fatal');
  assert.equal(isBusy(new TypeError('odd')), false);
});
