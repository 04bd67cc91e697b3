import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, test } from 'node:test';
import Database from 'better-sqlite3';
import type { MigrationStep } from '../../src/store/migrations.ts';
import {
  migrateSqlite,
  SQLITE_SCHEMA_VERSION,
  SQLITE_STEPS,
} from '../../src/store/sqlite/schema.ts';
import { keyOf } from '../support/ids.ts';
import { startAtOnce } from '../support/starters.ts';
import { everyOperationWorks, listOf } from './every-operation.ts';
import { createPlace, type Place } from './place.ts';

const STARTER_COUNT = 20;
/** Schema changes that a later version of fly-affinity might make. */
const ADDITIVE: MigrationStep = {
  oldestReader: 1,
  sql: `ALTER TABLE sessions ADD COLUMN region TEXT NOT NULL DEFAULT 'nowhere';
        CREATE INDEX sessions_by_region ON sessions (region);`,
};
const INCOMPATIBLE: MigrationStep = {
  oldestReader: SQLITE_SCHEMA_VERSION + 1,
  sql: 'ALTER TABLE sessions RENAME COLUMN machine TO owner',
};

test('a released step never changes', () => {
  assert.deepEqual(
    SQLITE_STEPS.map(({ sql }) => hash('sha256', sql.replaceAll(/\s+/g, ' ')).slice(0, 12)),
    ['b9d18c58d95c', '434dfa162253'],
  );
});

test('twenty processes that start at once on a new file migrate it once and agree', async (t) => {
  const place = await createPlace(t);
  const winners = await startAtOnce(
    t,
    scriptOf('starter.ts'),
    Array.from({ length: STARTER_COUNT }, (_, index) => [place.path(), `m${index}`]),
  );
  const [winner] = winners;
  assert.match(winner ?? '', /^m\d+$/);
  assert.deepEqual(winners, Array<string | undefined>(STARTER_COUNT).fill(winner));
  const db = openFile(place);
  assert.equal(versionOf(db), SQLITE_SCHEMA_VERSION);
  assert.equal(db.prepare('SELECT count(*) FROM sessions').pluck().get(), 1);
  assert.equal(db.pragma('integrity_check', { simple: true }), 'ok');
});

function scriptOf(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}

function openFile(place: Place): Database.Database {
  const db = new Database(place.path());
  place.closeAfterwards(db);
  return db;
}

function versionOf(db: Database.Database): unknown {
  return db.pragma('user_version', { simple: true });
}

/** A file of schema version 1 with sessions in it, as that version wrote them. */
function createVersion1(place: Place, expiresAt: number): void {
  const db = new Database(place.path());
  migrateSqlite(db, SQLITE_STEPS.slice(0, 1));
  db.prepare("INSERT INTO machines (number, id) VALUES (1, 'a1'), (2, 'b2')").run();
  const insert = db.prepare(`
    INSERT INTO sessions (key, machine, origin, generation, expires_at, lifetime_ms)
    VALUES (?, ?, ?, ?, ?, ?)`);
  insert.run(Buffer.from(keyOf('learned'), 'hex'), 1, 0, 1, expiresAt, 70_000);
  insert.run(Buffer.from(keyOf('adopted'), 'hex'), 2, 1, 2, expiresAt, 80_000);
  insert.run(Buffer.from(keyOf('copied'), 'hex'), 2, 2, 3, expiresAt, 90_000);
  assert.equal(versionOf(db), 1);
  db.close();
}

async function hasVersion1Sessions(place: Place, expiresAt: number): Promise<void> {
  const store = await place.open();
  const bindings = await listOf(store);
  const expected = [
    { machine: 'a1', origin: 'learned', generation: 1, createdAt: expiresAt - 70_000 },
    { machine: 'b2', origin: 'adopted', generation: 2, createdAt: expiresAt - 80_000 },
    { machine: 'b2', origin: 'copied', generation: 3, createdAt: expiresAt - 90_000 },
  ].map((each) => ({ ...each, key: keyOf(each.origin), expiresAt }));
  assert.deepEqual(
    bindings.toSorted((one, other) => one.generation - other.generation),
    expected,
  );
  assert.equal((await store.getMetrics()).total, 3);
  for (const { key } of expected) await store.delete(key);
  await everyOperationWorks(store, await place.open());
}

test('a file of version 1 keeps its sessions', async (t) => {
  const place = await createPlace(t);
  const expiresAt = Date.now() + 60_000;
  createVersion1(place, expiresAt);
  await hasVersion1Sessions(place, expiresAt);
  assert.equal(versionOf(openFile(place)), SQLITE_SCHEMA_VERSION);
});

test('a migration that was killed halfway leaves nothing, and runs again', async (t) => {
  const place = await createPlace(t);
  const expiresAt = Date.now() + 60_000;
  createVersion1(place, expiresAt);
  const script = scriptOf('interrupted-migration.ts');
  const child = spawn(process.execPath, ['--no-warnings', script, place.path()]);
  t.after(() => child.kill('SIGKILL'));
  const [printed] = (await once(child.stdout, 'data')) as [Buffer];
  assert.equal(String(printed), 'in the middle\n');
  child.kill('SIGKILL');
  await once(child, 'exit');
  await hasVersion1Sessions(place, expiresAt);
});

test('each step runs once, in its own transaction, and is recorded with its time', () => {
  const db = new Database(':memory:');
  const steps = [
    ...SQLITE_STEPS,
    { oldestReader: 1, sql: 'CREATE TABLE notes (n INTEGER); INSERT INTO notes (n) VALUES (1)' },
    { oldestReader: 4, sql: 'INSERT INTO notes (n) VALUES (2)' },
    { oldestReader: 2, sql: 'INSERT INTO notes (n) VALUES (3)' },
  ];
  for (const count of [1, 3, steps.length, steps.length]) migrateSqlite(db, steps.slice(0, count));
  assert.deepEqual(db.prepare('SELECT n FROM notes').pluck().all(), [1, 2, 3]);
  assert.deepEqual(
    db.prepare('SELECT version, oldest_reader FROM migrations ORDER BY version').raw().all(),
    [
      [2, 1],
      [3, 1],
      [4, 4],
      [5, 4],
    ],
  );
  const times = db.prepare<[], string>('SELECT applied_at FROM migrations').pluck().all();
  for (const time of times) assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000, time);
});

test('a step that fails keeps the steps before it and leaves nothing of its own', () => {
  const db = new Database(':memory:');
  const failing = {
    oldestReader: 1,
    sql: 'CREATE TABLE notes (n); INSERT INTO nowhere (n) VALUES (2)',
  };
  assert.throws(() => migrateSqlite(db, [...SQLITE_STEPS, failing]), { code: 'SQLITE_ERROR' });
  assert.equal(versionOf(db), SQLITE_SCHEMA_VERSION);
  assert.deepEqual(db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'notes'").all(), []);
  assert.equal(db.inTransaction, false);
});

describe('a newer fly-affinity', () => {
  test('that added a column in use affects neither this version nor its next start', async (t) => {
    const place = await createPlace(t);
    const store = await place.open();
    await everyOperationWorks(store, await place.open());
    const db = openFile(place);
    migrateSqlite(db, [...SQLITE_STEPS, ADDITIVE]);
    assert.equal(versionOf(db), SQLITE_SCHEMA_VERSION + 1);
    await everyOperationWorks(store, await place.open());
    await everyOperationWorks(await place.open(), await place.open());
    assert.equal(versionOf(db), SQLITE_SCHEMA_VERSION + 1);
  });

  test('with a schema that this version does not understand prevents the open', async (t) => {
    const place = await createPlace(t);
    const db = openFile(place);
    migrateSqlite(db, [...SQLITE_STEPS, INCOMPATIBLE, { ...ADDITIVE, sql: 'SELECT 1' }]);
    await assert.rejects(place.open(), {
      name: 'StoreError',
      code: 'fatal',
      message: new RegExp(
        `version ${SQLITE_SCHEMA_VERSION + 2}.*version ${SQLITE_SCHEMA_VERSION} at most.*newer`,
      ),
    });
  });

  test('without a recorded version is treated as one we do not understand', async (t) => {
    const place = await createPlace(t);
    await (await place.open()).close();
    openFile(place).pragma(`user_version = ${SQLITE_SCHEMA_VERSION + 1}`);
    await assert.rejects(place.open(), { code: 'fatal', message: /newer/ });
  });
});
