/** A damaged file: never a crash, a hang or an invalid result, and quarantined at the next open. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { describe, test, type TestContext } from 'node:test';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import type { Binding, SessionKey } from '../../../src/session.ts';
import { toSqliteStoreError } from '../../../src/store/sqlite/errors.ts';
import { openForWriting } from '../../../src/store/sqlite/connection.ts';
import { createRowReader } from '../../../src/store/sqlite/rows.ts';
import { openSqliteReader } from '../../../src/store/sqlite/reader.ts';
import type { Transactions } from '../../../src/store/sqlite/transactions.ts';
import type { LocalStore, StoreError } from '../../../src/store/store.ts';
import { createTestClock } from '../../support/clock.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { claim, ownerOf } from '../claims.ts';
import { createPlace, type Place } from '../place.ts';

const A = machineId('a1');
const B = machineId('b2');
const TTL_MS = 3_600_000;
const LIMITS = { maxSessions: 1_000, maxAgeMs: 0 };
const KEYS = Array.from({ length: 300 }, (_, index) => keyOf(`s${index}`));

/**
 * The bytes of a store with {@link KEYS}, as a killed process leaves them: the last hundred in the
 * log.
 */
interface Files {
  readonly database: Buffer;
  readonly log: Buffer;
}

async function makeFiles(t: TestContext): Promise<Files> {
  const place = await createPlace(t);
  const clock = createTestClock();
  const claimAll = async (keys: readonly SessionKey[]): Promise<LocalStore> => {
    const store = await place.open({ clock });
    const bound = keys.map((key, index) =>
      store.claim({
        key,
        machine: index % 2 ? A : B,
        origin: ORIGINS[index % 3] ?? 'copied',
        ttlMs: TTL_MS,
      }),
    );
    await Promise.all(bound);
    return store;
  };
  await (await claimAll(KEYS.slice(0, 200))).close();
  await claimAll(KEYS.slice(200));
  return {
    database: await readFile(place.path()),
    log: await readFile(`${place.path()}-wal`),
  };
}

const ORIGINS = ['learned', 'adopted', 'copied'] as const;

/** Damage to the bytes of a file. */
type Damage = (bytes: Buffer) => Buffer;

const share = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const flips = fc
  .array(fc.tuple(share, fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 20 })
  .map((places): Damage => (bytes) => {
    for (const [at, mask] of places) {
      const offset = Math.floor(at * bytes.length);
      bytes[offset] = (bytes[offset] ?? 0) ^ mask;
    }
    return bytes;
  });
/** The region that holds most of what SQLite relies on. */
const headerFlips = fc
  .array(fc.tuple(fc.integer({ min: 0, max: 150 }), fc.integer({ min: 1, max: 255 })), {
    minLength: 1,
    maxLength: 4,
  })
  .map((places): Damage => (bytes) => {
    for (const [offset, mask] of places) bytes[offset] = (bytes[offset] ?? 0) ^ mask;
    return bytes;
  });
const cuts = share.map(
  (at): Damage =>
    (bytes) =>
      bytes.subarray(0, Math.floor(at * bytes.length)),
);
const overwritten = fc
  .tuple(share, fc.uint8Array({ minLength: 1, maxLength: 4_096 }), fc.boolean())
  .map(([at, junk, isZero]): Damage => (bytes) => {
    bytes.set(isZero ? junk.fill(0) : junk, Math.floor(at * (bytes.length - junk.length)));
    return bytes;
  });
const swapped = fc.tuple(share, share).map(([from, to]): Damage => (bytes) => {
  const pageCount = Math.floor(bytes.length / 4_096);
  const page = Math.floor(from * pageCount) * 4_096;
  bytes.copy(bytes, Math.floor(to * pageCount) * 4_096, page, page + 4_096);
  return bytes;
});
const same: Damage = (bytes) => bytes;
const none = fc.constant(same);
const damages = fc.oneof(flips, headerFlips, cuts, overwritten, swapped);
const both = fc.oneof(fc.tuple(damages, none), fc.tuple(none, damages), fc.tuple(damages, damages));

function writeFiles(path: string, files: Files, [ofDatabase, ofLog]: [Damage, Damage]): void {
  writeFileSync(path, ofDatabase(Buffer.from(files.database)));
  writeFileSync(`${path}-wal`, ofLog(Buffer.from(files.log)));
}

function assertSane(binding: Binding, key = binding.key): void {
  assert.equal(binding.key, key);
  assert.match(key, /^[0-9a-f]{32}$/);
  assert.match(binding.machine, /^[a-z0-9]{1,32}$/);
  assert.ok(ORIGINS.includes(binding.origin), binding.origin);
  for (const value of [binding.generation, binding.createdAt, binding.expiresAt]) {
    assert.ok(Number.isInteger(value), `${value}`);
  }
}

/** Every error that it throws comes from SQLite or the store: none from a bug of ours. */
function attempt<Result>(run: () => Result): Result | undefined {
  try {
    return run();
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    const isKnown =
      error instanceof Database.SqliteError || toSqliteStoreError('', error) === error;
    assert.ok(isKnown, String(error));
    return undefined;
  }
}

/** A store with one session, which is closed. */
async function makeStore(place: Place): Promise<void> {
  const store = await place.open();
  await claim(store, 'old');
  await store.close();
}

async function asidesIn(place: Place): Promise<string[]> {
  return (await readdir(place.directory)).filter((name) => name.includes('.damaged-')).sort();
}

/** A change by another program to the file, if it can. */
function execute(place: Place, sql: string): void {
  const db = new Database(place.path());
  db.exec(sql);
  db.close();
}

async function overwrite(place: Place, offset: number, bytes: Uint8Array): Promise<void> {
  const file = await readFile(place.path());
  file.set(bytes, offset);
  await writeFile(place.path(), file);
}

describe('a file that is found damaged as it is opened', () => {
  const damages: [what: string, damage: (place: Place) => unknown][] = [
    ['with a header of zeros', (place) => overwrite(place, 0, new Uint8Array(100))],
    ['with a broken first byte', (place) => overwrite(place, 0, Buffer.from('X'))],
    ['of which only the first bytes are left', (place) => truncate(place.path(), 50)],
    [
      'in a format that SQLite does not know',
      (place) => overwrite(place, 44, Buffer.of(0, 0, 0, 9)),
    ],
    ['cut within its first page', (place) => truncate(place.path(), 3_000)],
    ['cut in half', (place) => truncate(place.path(), 20_000)],
    ['without a table', (place) => execute(place, 'DROP TABLE machines')],
    ['without any table', emptyOut],
    ['with junk in a page', (place) => overwrite(place, 4_096, Buffer.alloc(4_096, 0xa5))],
  ];
  for (const [what, damage] of damages) {
    test(`${what}: is quarantined whole, and a new file replaces it`, async (t) => {
      const place = await createPlace(t);
      await makeStore(place);
      await damage(place);
      const before = await readFile(place.path());
      const errors: StoreError[] = [];
      const store = await place.open({ onError: (error) => errors.push(error) });
      const asides = await asidesIn(place);
      assert.equal(asides.length, 1, asides.join());
      const [aside = ''] = asides;
      assert.match(aside, /^store\.sqlite\.damaged-\d{8}T\d{6}\.\d{3}Z$/);
      assert.deepEqual(await readFile(place.path(aside)), before);
      assert.deepEqual(
        errors.map(({ code }) => code),
        ['damaged'],
      );
      const message = errors[0]?.message ?? '';
      assert.ok(message.includes(JSON.stringify(place.path())), message);
      assert.ok(message.includes(JSON.stringify(place.path(aside))), message);
      assert.equal(ownerOf(store, 'old'), 'absent');
      assert.equal((await claim(store, 'new')).machine, A);
    });
  }

  test('is quarantined next to earlier ones, of which the newest are kept', async (t) => {
    const place = await createPlace(t);
    const clock = createTestClock();
    const contents: string[] = [];
    for (let round = 0; round < 5; round += 1) {
      // As long as a header, which is the minimum that is checked.
      const content = `SQLite format 3\0${round}`;
      contents.push(content);
      await writeFile(place.path(), content);
      // Two at the same moment each: no earlier one is replaced.
      await (await place.open({ clock })).close();
      if (round % 2 === 1) await clock.advance(1);
    }
    const asides = await asidesIn(place);
    const kept = await Promise.all(asides.map((name) => readFile(place.path(name), 'utf8')));
    assert.deepEqual(kept, contents.slice(-3));
  });

  test('stays quarantined when the clock was wrong about the others', async (t) => {
    const place = await createPlace(t);
    const names = ['a', 'b', 'c'].map(
      (_, index) => `store.sqlite.damaged-2099010${index}T000000.000Z`,
    );
    for (const name of names) await writeFile(place.path(name), '');
    await writeFile(place.path(), 'SQLite');
    await place.open({ clock: createTestClock() });
    const asides = await asidesIn(place);
    assert.deepEqual(asides, ['store.sqlite.damaged-20260101T000000.000Z', ...names.slice(1)]);
  });

  test('fails the open if the next file is damaged as well', async (t) => {
    const place = await createPlace(t);
    await writeFile(place.path(), 'SQLite');
    let count = 0;
    const onError = (): void => {
      count += 1;
      writeFileSync(place.path(), 'SQLite');
    };
    await assert.rejects(place.open({ onError }), { code: 'damaged', message: /move it away/ });
    assert.equal(count, 1);
    assert.equal((await asidesIn(place)).length, 1);
  });
});

/** Our application id alone: a schema that is lost. */
function emptyOut(place: Place): void {
  execute(
    place,
    'DROP TABLE sessions; DROP TABLE machines; DROP TABLE counts; DROP TABLE migrations',
  );
}

describe('a file that may contain valuable data is rejected and left unchanged', () => {
  const foreignFiles: [what: string, make: (place: Place) => unknown][] = [
    ['a text', (place) => writeFile(place.path(), 'Dear diary, '.repeat(1_000))],
    ['a short text', (place) => writeFile(place.path(), 'Dear diary')],
    ["another program's database", (place) => execute(place, 'CREATE TABLE users (name TEXT)')],
    ["another program's database, damaged", createDamagedForeignFile],
    ['a file that is damaged beyond recognition', makeUnrecognizable],
    ['a newer schema', makeNewer],
  ];
  for (const [what, make] of foreignFiles) {
    test(what, async (t) => {
      const place = await createPlace(t);
      await make(place);
      const before = await readFile(place.path());
      await assert.rejects(place.open(), { code: 'fatal', message: /SESSION_STORE_PATH/ });
      assert.deepEqual(await readFile(place.path()), before);
      assert.deepEqual(await readdir(place.directory), ['store.sqlite']);
    });
  }
});

async function createDamagedForeignFile(place: Place): Promise<void> {
  execute(place, 'CREATE TABLE users (name TEXT)');
  await overwrite(place, 100, Buffer.alloc(1_000, 0xa5));
}

async function makeNewer(place: Place): Promise<void> {
  await makeStore(place);
  execute(place, 'PRAGMA user_version = 99');
}

async function makeUnrecognizable(place: Place): Promise<void> {
  await makeStore(place);
  await overwrite(place, 0, Buffer.alloc(4_096, 0xa5));
}

/** Makes the columns accept values of any type. */
const LOOSEN = `ALTER TABLE sessions RENAME TO strict_sessions;
  CREATE TABLE sessions (
    key PRIMARY KEY, machine, origin, generation, expires_at, lifetime_ms
  ) WITHOUT ROWID;
  INSERT INTO sessions SELECT * FROM strict_sessions`;

/** A row that no store can have written; SQLite detects no error. */
const breakRow = (place: Place): void => execute(place, 'UPDATE sessions SET machine = 99');

async function startBroken(t: TestContext) {
  const place = await createPlace(t);
  await makeStore(place);
  const errors: StoreError[] = [];
  const store = await place.open({ onError: (error) => errors.push(error) });
  breakRow(place);
  return { place, store, errors };
}

describe('invalid data that is found while the store is open', () => {
  const nonsense: [what: string, sql: string][] = [
    ['a Machine without a name', 'UPDATE sessions SET machine = 99'],
    ['a Machine with a name that is none', "UPDATE machines SET id = 'No. 1'"],
    ['a Machine that is no number', "UPDATE sessions SET machine = 'one'"],
    ['an unknown origin', 'UPDATE sessions SET origin = -1'],
    ['an origin that is no number', "UPDATE sessions SET origin = 'length'"],
    ['a generation that is no number', "UPDATE sessions SET generation = x'01'"],
    ['an expiry that is not whole', 'UPDATE sessions SET expires_at = expires_at + 0.5'],
    ['an age that is no number', "UPDATE sessions SET lifetime_ms = 'old'"],
  ];
  for (const [what, sql] of nonsense) {
    test(`${what}: is detected as invalid`, async (t) => {
      const place = await createPlace(t);
      await makeStore(place);
      const errors: StoreError[] = [];
      const store = await place.open({ onError: (error) => errors.push(error) });
      execute(place, LOOSEN);
      execute(place, sql);
      assert.equal(ownerOf(store, 'old'), 'unknown');
      assert.deepEqual(
        errors.map(({ code }) => code),
        ['damaged'],
      );
    });
  }

  const invalidRows: [what: string, sql: string][] = [
    ['a Machine without a name', 'UPDATE sessions SET machine = 99'],
    ['a key that is too short', "UPDATE sessions SET key = x'01'"],
    ['a generation that is no number', "UPDATE sessions SET generation = x'01'"],
    ['an expiry that is not whole', 'UPDATE sessions SET expires_at = expires_at + 0.5'],
  ];
  for (const [what, sql] of invalidRows) {
    test(`the peers receive no row with ${what}`, async (t) => {
      const place = await createPlace(t);
      await makeStore(place);
      const errors: StoreError[] = [];
      const store = await place.open({ onError: (error) => errors.push(error) });
      execute(place, LOOSEN);
      execute(place, sql);
      const pages = store.pages?.({ except: [] })[Symbol.asyncIterator]();
      assert.ok(pages);
      await assert.rejects(pages.next(), { code: 'damaged' });
      assert.deepEqual(
        errors.map(({ code }) => code),
        ['damaged'],
      );
    });
  }

  test('an origin that only a newer fly-affinity knows is absent', async (t) => {
    const place = await createPlace(t);
    await makeStore(place);
    const store = await place.open();
    execute(place, 'UPDATE sessions SET origin = 3');
    const found = store.lookup(keyOf('old'));
    assert.ok(typeof found !== 'string');
    assert.equal(found.origin, 'copied');
  });

  test('keys out of order: a listing ends with an error, and terminates', async (t) => {
    const files = await makeFiles(t);
    const place = await createPlace(t);
    // One of the greatest that are in the file and not only in the log.
    const great = Buffer.from(KEYS.slice(0, 200).sort().at(-5) ?? '', 'hex');
    const bytes = files.database;
    for (let at = bytes.indexOf(great); at >= 0; at = bytes.indexOf(great)) bytes[at] = 0;
    await writeFile(place.path(), bytes);
    const db = new Database(place.path());
    place.closeAfterwards(db);
    assert.throws(() => createRowReader(db).page(undefined, 1_000), {
      code: 'damaged',
      message: /out of order/,
    });
  });

  for (const count of [-1, 5_000]) {
    test(`a count of ${count}, with one row: no write evicts because of it`, async (t) => {
      const place = await createPlace(t);
      await makeStore(place);
      const store = await place.open({ limits: LIMITS });
      execute(place, `UPDATE counts SET sessions = ${count} WHERE origin = 1`);
      await assert.rejects(claim(store, 'new'), { code: 'damaged', message: /count/ });
    });
  }
});

describe('damage that is found while the store is open', () => {
  test('by a read: it is reported once, no cached value is used and no write acknowledged any more', async (t) => {
    const { store, errors } = await startBroken(t);
    assert.equal(ownerOf(store, 'old'), 'unknown');
    assert.equal(ownerOf(store, 'none'), 'unknown');
    assert.equal(ownerOf(store, 'old'), 'unknown');
    await assert.rejects(claim(store, 'new'), { code: 'damaged', message: /no Machine 99/ });
    await assert.rejects(store.cleanup(), { code: 'damaged' });
    assert.deepEqual(
      errors.map(({ code, message }) => `${code} ${message.replace(/.*: /, '')}`),
      ['damaged there is no Machine 99'],
    );
  });

  test('by a write: none of its batch is acknowledged', async (t) => {
    const { store, errors } = await startBroken(t);
    const writes = ['first', 'second', 'old', 'third'].map((name) => claim(store, name));
    const results = await Promise.allSettled(writes);
    assert.deepEqual(
      results.map(({ status }) => status),
      ['fulfilled', 'rejected', 'rejected', 'rejected'],
    );
    assert.equal(ownerOf(store, 'none'), 'unknown');
    assert.equal(errors.length, 1);
  });

  test('by a read, while a write is in progress: that write is not acknowledged', async (t) => {
    const { store } = await startBroken(t);
    const claimed = claim(store, 'new');
    assert.equal(ownerOf(store, 'old'), 'unknown');
    await assert.rejects(claimed, { code: 'damaged' });
  });

  test('by a listing: it ends with the error', async (t) => {
    const { store } = await startBroken(t);
    const listing = (async () => {
      for await (const binding of store.entries()) assert.fail(binding.key);
    })();
    await assert.rejects(listing, { code: 'damaged' });
  });

  test('quarantines the file when the store is closed, and reports it; then a new one is opened', async (t) => {
    const { place, store, errors } = await startBroken(t);
    assert.equal(ownerOf(store, 'old'), 'unknown');
    await store.close();
    assert.equal(existsSync(place.path()), false);
    const [aside = ''] = await asidesIn(place);
    assert.equal(errors.length, 2);
    assert.ok(errors[1]?.message.includes(place.path(aside)), errors[1]?.message);
    const again = await place.open();
    assert.equal(ownerOf(again, 'old'), 'absent');
    assert.equal((await claim(again, 'old', B)).machine, B);
  });

  test('reaches another store on the file, which leaves the new file unchanged', async (t) => {
    const { place, store } = await startBroken(t);
    const other = await place.open();
    await claim(other, 'others');
    assert.equal(ownerOf(store, 'old'), 'unknown');
    await store.close();
    // With the log, to which the other store still writes, and its index.
    const suffixes = (await asidesIn(place)).map((name) => name.replace(/.*Z/, ''));
    assert.deepEqual(suffixes, ['', '-shm', '-wal']);
    const again = await place.open();
    await claim(again, 'new', B);
    await assert.rejects(claim(other, 'lost'), { code: 'damaged' });
    assert.equal(ownerOf(other, 'new'), 'unknown');
    await other.close();
    assert.equal(ownerOf(again, 'new'), B);
    assert.equal((await claim(again, 'more')).machine, A);
    assert.equal((await asidesIn(place)).length, 3);
  });

  test('in its tables, changed by another program: the file stays, and is checked at the next open', async (t) => {
    const place = await createPlace(t);
    const store = await place.open();
    await claim(store, 'old');
    execute(place, 'ALTER TABLE sessions RENAME COLUMN machine TO owner; PRAGMA user_version = 99');
    await assert.rejects(claim(store, 'new'), { code: 'damaged' });
    await store.close();
    assert.deepEqual(await asidesIn(place), []);
    await assert.rejects(place.open(), { code: 'fatal', message: /version 99/ });
    assert.deepEqual(await asidesIn(place), []);
  });
});

describe('for any damaged bytes, every read and write returns a binding or an error', () => {
  test('of a file that was damaged before', async (t) => {
    const files = await makeFiles(t);
    const place = await createPlace(t);
    let count = 0;
    const property = fc.property(both, (damage) => {
      const path = place.path(`${(count += 1)}.sqlite`);
      writeFiles(path, files, damage);
      useFile(path, () => undefined);
    });
    fc.assert(property, { numRuns: 200 });
  });

  test('of a file that is damaged while it is open', async (t) => {
    const files = await makeFiles(t);
    const place = await createPlace(t);
    let count = 0;
    const property = fc.property(both, (damage) => {
      const path = place.path(`${(count += 1)}.sqlite`);
      writeFiles(path, files, [same, same]);
      useFile(path, () => writeFiles(path, files, damage));
    });
    fc.assert(property, { numRuns: 200 });
  });
});

test('for any damaged bytes, a store that is closed and opened again works in the end, or is rejected', async (t) => {
  const files = await makeFiles(t);
  const place = await createPlace(t);
  const property = fc.asyncProperty(both, fc.nat(), async (damage, number) => {
    const path = place.path(`${number}.sqlite`);
    writeFiles(path, files, damage);
    for (let round = 1; !(await worksOrIsRejected(place, path)); round += 1) {
      assert.ok(round < 3, 'it is damaged again and again');
    }
  });
  await fc.assert(property, { numRuns: 15 });
});

async function worksOrIsRejected(place: Place, path: string): Promise<boolean> {
  try {
    const store = await place.open({ path });
    const results = await Promise.allSettled(KEYS.map((key) => store.touch(key, TTL_MS)));
    const isSound = KEYS.every((key) => store.lookup(key) !== 'unknown');
    await store.close();
    return isSound && results.every(({ status }) => status === 'fulfilled');
  } catch (error) {
    assert.equal(toSqliteStoreError('', error).code, 'fatal');
    return true;
  }
}

function useFile(path: string, onOpen: () => void): void {
  const opened = attempt(() => openForWriting({ path, database: undefined, limits: LIMITS }));
  if (opened === undefined) return;
  try {
    onOpen();
    readAll(path, opened.files.database);
    useAll(opened.transactions);
  } finally {
    opened.transactions.close({ kind: 'close' });
  }
}

function readAll(path: string, database: string): void {
  const reader = attempt(() => openSqliteReader(path, database));
  for (const key of KEYS) {
    const found = attempt(() => reader?.find(key));
    if (found) assertSane(found, key);
  }
  reader?.close();
}

function useAll(transactions: Transactions): void {
  const now = createTestClock().now();
  let after: SessionKey | undefined;
  for (let pageCount = 0; pageCount < 100; pageCount += 1) {
    const page = attempt(() => transactions.page({ kind: 'page', after, now, maxRows: 50 }));
    for (const binding of page?.bindings ?? []) assertSane(binding);
    after = page?.next;
    if (after === undefined) break;
  }
  assert.equal(after, undefined, 'the listing has no end');
  for (const key of [...KEYS.slice(0, 20), ...KEYS.slice(-20), keyOf('new')]) {
    const write = { kind: 'claim', key, now, machine: A, origin: 'learned', ttlMs: 1 } as const;
    const response = attempt(() => transactions.write({ kind: 'write', writes: [write] }));
    for (const result of response?.results ?? []) {
      if (result.kind === 'done' && result.outcome.after) assertSane(result.outcome.after, key);
    }
  }
  const counted = attempt(() => transactions.count({ kind: 'count', now }));
  if (counted) assert.ok(counted.total >= 0 && Number.isInteger(counted.total));
  const late = now + 10 * TTL_MS;
  attempt(() => transactions.cleanup({ kind: 'cleanup', now: late, maxRemoved: 500 }));
}
