import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { test, type TestContext } from 'node:test';
import { text } from 'node:stream/consumers';
import Database from 'better-sqlite3';
import { migrate, SCHEMA_VERSION, schemaVersion } from '../../src/store/migrations.ts';
import { createPlace } from './place.ts';

const STARTER = fileURLToPath(new URL('starter.ts', import.meta.url));
const STARTER_COUNT = 20;

test('twenty processes that start at once on a new file migrate it once and agree', async (t) => {
  const place = await createPlace(t);
  const starters = await Promise.all(
    Array.from({ length: STARTER_COUNT }, (_, index) => start(t, place.path(), `m${index}`)),
  );
  // All are loaded; now all open the file.
  const winners = await Promise.all(starters.map((starter) => starter.go()));
  const [winner] = winners;
  assert.match(winner ?? '', /^m\d+$/);
  assert.deepEqual(winners, Array<string | undefined>(STARTER_COUNT).fill(winner));
  const db = new Database(place.path());
  place.closeAfterwards(db);
  assert.equal(schemaVersion(db), SCHEMA_VERSION);
  assert.equal(db.prepare('SELECT count(*) FROM sessions').pluck().get(), 1);
  assert.equal(db.pragma('integrity_check', { simple: true }), 'ok');
});

/** A starter that has loaded everything; `go` resolves with the Machine it found bound. */
async function start(
  t: TestContext,
  path: string,
  machine: string,
): Promise<{ go(): Promise<string> }> {
  // Node itself takes the types away.
  const child = spawn(process.execPath, ['--no-warnings', STARTER, path, machine], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const [ready] = (await once(child.stdout, 'data')) as [Buffer];
  assert.equal(String(ready), 'ready\n');
  return {
    go: async () => {
      child.stdin.end();
      return (await text(child.stdout)).trim();
    },
  };
}

test('each step is taken once, in a transaction of its own', () => {
  const db = new Database(':memory:');
  const steps = [
    'CREATE TABLE notes (step INTEGER); INSERT INTO notes VALUES (1)',
    'INSERT INTO notes VALUES (2)',
  ];
  migrate(db, steps.slice(0, 1));
  migrate(db, steps);
  migrate(db, steps);
  assert.deepEqual(db.prepare('SELECT step FROM notes').pluck().all(), [1, 2]);
  assert.equal(schemaVersion(db), 2);
});

test('a step that fails leaves the steps before it and nothing of itself', () => {
  const db = new Database(':memory:');
  const steps = [
    'CREATE TABLE notes (step INTEGER)',
    'INSERT INTO notes VALUES (2); INSERT INTO nowhere VALUES (2)',
  ];
  assert.throws(() => migrate(db, steps), { code: 'SQLITE_ERROR' });
  assert.equal(schemaVersion(db), 1);
  assert.deepEqual(db.prepare('SELECT step FROM notes').all(), []);
  assert.equal(db.inTransaction, false);
});
