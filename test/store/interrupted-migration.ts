/**
 * A process that hangs in the middle of a migration of the given file, and prints a line when it
 * does.
 */
import { writeSync } from 'node:fs';
import Database from 'better-sqlite3';
import { migrateSqlite, SQLITE_STEPS } from '../../src/store/sqlite/schema.ts';

const db = new Database(process.argv[2]);
db.function('stop_here', () => {
  writeSync(1, 'in the middle\n');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  return null;
});
const sql = 'DELETE FROM sessions; DROP TABLE machines; SELECT stop_here()';
migrateSqlite(db, [...SQLITE_STEPS.slice(0, 1), { oldestReader: 1, sql }]);
