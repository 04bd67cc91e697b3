/**
 * A process that writes to the given file and checkpoints its log, repeatedly, until its standard
 * input ends.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';

const [path = ''] = process.argv.slice(2);
const db = new Database(path, { timeout: 10_000 });
process.stdin.resume();
const put = db.prepare('INSERT INTO sessions VALUES (?, 1, 0, 1, 4000000000000, 1)');
const putMany = db.transaction(() => {
  for (let count = 0; count < 500; count += 1) put.run(randomBytes(16));
});
while (!process.stdin.readableEnded) {
  putMany.immediate();
  db.pragma('wal_checkpoint(TRUNCATE)');
  process.stdout.write('emptied\n');
  // SQLite's locks are not fair: let other processes in.
  await sleep(5);
}
db.close();
