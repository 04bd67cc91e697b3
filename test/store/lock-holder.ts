/**
 * A process that holds the write lock of the given file for a number of ms, and prints the start
 * and the end.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';

const [path = '', ms = ''] = process.argv.slice(2);
const db = new Database(path);
db.exec('BEGIN IMMEDIATE');
process.stdout.write('locked\n');
await sleep(Number(ms));
process.stdout.write('released\n');
db.exec('ROLLBACK');
db.close();
