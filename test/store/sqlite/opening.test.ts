import assert from 'node:assert/strict';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import Database from 'better-sqlite3';
import { SQLITE_SCHEMA_VERSION } from '../../../src/store/sqlite/schema.ts';
import { StoreError } from '../../../src/store/store.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { createPlace, type Place } from '../place.ts';

test('missing directories are created', async (t) => {
  const place = await createPlace(t);
  const store = await place.open({ path: place.path('not/there/yet/store.sqlite') });
  assert.equal(store.lookup(keyOf('a')), 'absent');
});

test('an empty file is a new store', async (t) => {
  const place = await createPlace(t);
  await writeFile(place.path(), '');
  const store = await place.open();
  assert.equal(store.lookup(keyOf('a')), 'absent');
});

describe('a path that is unusable is rejected with what was found and what to do', () => {
  test('a directory', async (t) => {
    const place = await createPlace(t);
    await mkdir(place.path('sessions'));
    await rejects(place, 'sessions', 'fatal', /not a file.*SESSION_STORE_PATH/);
  });

  test('a path below a file', async (t) => {
    const place = await createPlace(t);
    await writeFile(place.path('file'), '');
    await rejects(place, 'file/store.sqlite', 'fatal', /directory cannot be created.*volume/);
  });

  test('a file of another program', async (t) => {
    const place = await createPlace(t);
    await writeFile(
      place.path('notes.txt'),
      'not a database, and longer than its header '.repeat(50),
    );
    await rejects(place, 'notes.txt', 'fatal', /not a database.*move it away/);
    assert.match(await readFile(place.path('notes.txt'), 'utf8'), /^not a database/);
  });

  for (const path of ['', ':memory:']) {
    test(`"${path}"`, async (t) => {
      const place = await createPlace(t);
      await assert.rejects(place.open({ path }), { code: 'fatal', message: /SESSION_STORE_URL/ });
    });
  }

  test("another program's database, which stays as it was", async (t) => {
    const place = await createPlace(t);
    const db = new Database(place.path('app.sqlite'));
    db.exec('CREATE TABLE users (name TEXT)');
    db.close();
    const before = await readFile(place.path('app.sqlite'));
    await rejects(place, 'app.sqlite', 'fatal', /another program's.*SESSION_STORE_PATH/);
    assert.deepEqual(await readFile(place.path('app.sqlite')), before);
  });

  test('a newer schema, with both versions', async (t) => {
    const place = await createPlace(t);
    await (await place.open()).close();
    const db = new Database(place.path());
    db.pragma(`user_version = ${SQLITE_SCHEMA_VERSION + 6}`);
    db.close();
    await rejects(
      place,
      'store.sqlite',
      'fatal',
      new RegExp(
        `version ${SQLITE_SCHEMA_VERSION + 6}.*version ${SQLITE_SCHEMA_VERSION} at most.*newer`,
      ),
    );
  });

  test('a directory that is not writable', async (t) => {
    const place = await createPlace(t);
    await mkdir(place.path('closed'));
    await chmod(place.path('closed'), 0o500);
    // Root can write to every directory, except in a read-only file system.
    const path =
      process.getuid?.() === 0 ? '/proc/store.sqlite' : place.path('closed/store.sqlite');
    await assert.rejects(place.open({ path }), (error) => {
      assert.ok(error instanceof StoreError);
      assert.equal(error.code, 'fatal');
      assert.ok(error.message.includes(path), error.message);
      return true;
    });
  });
});

async function rejects(place: Place, name: string, code: string, message: RegExp): Promise<void> {
  await assert.rejects(place.open({ path: place.path(name) }), (error) => {
    assert.ok(error instanceof StoreError);
    assert.equal(error.code, code);
    assert.ok(error.message.includes(place.path(name)), error.message);
    assert.match(error.message, message);
    return true;
  });
}

test('a locked file with the right schema is opened', async (t) => {
  const place = await createPlace(t);
  await (await place.open()).close();
  const db = new Database(place.path());
  place.closeAfterwards(db);
  db.exec('BEGIN IMMEDIATE');
  const store = await place.open();
  assert.equal(store.lookup(keyOf('a')), 'absent');
  db.exec('ROLLBACK');
  const claimed = await store.claim({
    key: keyOf('a'),
    machine: machineId('m'),
    origin: 'learned',
    ttlMs: 1_000,
  });
  assert.equal(claimed.machine, 'm');
});
