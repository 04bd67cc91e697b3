/**
 * The disk is full, or not writable any more: reads continue, and so do writes once that is over.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, truncateSync, writeSync } from 'node:fs';
import { chown } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { migrateSqlite } from '../../../src/store/sqlite/schema.ts';
import { StoreError, type LocalStore } from '../../../src/store/store.ts';
import { keyOf } from '../../support/ids.ts';
import { startChild } from '../child.ts';
import { claim } from '../claims.ts';
import { createPlace } from '../place.ts';

const PAGE_BYTES = 512;
/** More pages than SQLite allows for a file (https://www.sqlite.org/limits.html#max_page_count). */
const MAX_PAGES = 0xff_ff_ff_fe;
const PAGE_COUNT_AT = 28;

/** A file with the maximum number of pages, nearly all of them a hole that uses no disk space. */
function makeFullFile(path: string): void {
  const db = new Database(path);
  db.pragma(`page_size = ${PAGE_BYTES}`);
  migrateSqlite(db);
  db.close();
  const header = Buffer.alloc(4);
  header.writeUInt32BE(MAX_PAGES);
  const descriptor = openSync(path, 'r+');
  writeSync(descriptor, header, 0, 4, PAGE_COUNT_AT);
  closeSync(descriptor);
  truncateSync(path, MAX_PAGES * PAGE_BYTES);
}

test('in a full file, writes fail as full and reads continue; with space again, writes succeed', async (t) => {
  const place = await createPlace(t);
  makeFullFile(place.path());
  const store = await place.open();
  const names = Array.from({ length: 100 }, (_, index) => `s${index}`);
  const isTaken = await Promise.all(
    names.map((name) =>
      claim(store, name).then(
        () => true,
        (error: unknown) => {
          assert.ok(error instanceof StoreError);
          assert.equal(error.code, 'full');
          return false;
        },
      ),
    ),
  );
  const taken = names.filter((_, index) => isTaken[index]);
  const rejected = names.filter((_, index) => !isTaken[index]);
  assert.ok(taken.length > 0 && rejected.length > 0);
  const isThere = (of: LocalStore, name: string): boolean => of.lookup(keyOf(name)) !== 'absent';
  assert.deepEqual(
    names.filter((name) => isThere(store, name)),
    taken,
  );
  for (const name of taken) assert.equal(await store.delete(keyOf(name)), true);
  for (const name of rejected.slice(0, 5)) await claim(store, name);
  await store.close();
  const again = await place.open();
  assert.deepEqual(
    names.filter((name) => isThere(again, name)),
    rejected.slice(0, 5),
  );
});

/** In its own mount namespace: the disk is removed with the process, however the process ends. */
const ON_SMALL_DISK = [
  'unshare',
  ...['--user', '--map-root-user', '--mount', 'sh', '-c'],
  'mount -t tmpfs -o size=2m tmpfs "$0" && exec "$@"',
];

test('on a full disk writes fail as full and reads continue; with space again, writes succeed, and nothing is lost', async (t) => {
  const place = await createPlace(t);
  const [program, ...args] = [...ON_SMALL_DISK, place.directory, 'true'];
  if (spawnSync(program, args).status !== 0) {
    t.skip('skipped: no disk can be mounted here, which needs root or user namespaces');
    return;
  }
  const through = [...ON_SMALL_DISK, place.directory];
  const child = startChild(t, 'full-disk.ts', [place.directory], { through });
  assert.equal(await child.ended, 0);
});

const NOBODY = 65_534;

test('a file that is not writable any more is rejected at the open, with what to do', async (t) => {
  const place = await createPlace(t);
  const isRoot = process.getuid?.() === 0;
  if (isRoot && !canRunAsNobody('write-protected.ts')) {
    t.skip('skipped: root may write every file, and another user may not read this directory');
    return;
  }
  if (isRoot) await chown(place.directory, NOBODY, NOBODY);
  const as = isRoot ? { uid: NOBODY } : {};
  const child = startChild(t, 'write-protected.ts', [place.directory], as);
  assert.equal(await child.ended, 0);
});

function canRunAsNobody(script: string): boolean {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const user = { uid: NOBODY, gid: NOBODY };
  return spawnSync(process.execPath, ['--no-warnings', '--check', path], user).status === 0;
}

test('when the log becomes immutable, writes fail as fatal with the reason, and reads continue', async (t) => {
  const place = await createPlace(t);
  const store = await place.open();
  await claim(store, 'old');
  const log = `${place.path()}-wal`;
  const change = (mode: '+i' | '-i') => spawnSync('chattr', [mode, log]).status === 0;
  place.closeAfterwards({ close: () => change('-i') });
  if (!change('+i')) {
    t.skip('skipped: chattr +i needs root, and a file system that knows it');
    return;
  }
  await assert.rejects(claim(store, 'new'), { code: 'fatal', message: /is not writable/ });
  assert.notEqual(typeof store.lookup(keyOf('old')), 'string');
  assert.equal(store.lookup(keyOf('new')), 'absent');
  assert.ok(change('-i'));
  await claim(store, 'new');
});
