/** A process that holds the write lock of the file given for so many ms, and says from when and until when. */
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
