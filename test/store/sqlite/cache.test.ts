/**
 * The cache of the file in memory, while other processes write to the file through their own
 * stores.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import type { SqliteStoreOptions } from '../../../src/store/sqlite/sqlite.ts';
import type { LocalStore } from '../../../src/store/store.ts';
import { createTestClock, type TestClock } from '../../support/clock.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { claim } from '../claims.ts';
import { createPlace, holdWriteLock, nextWorker, type Place } from '../place.ts';

const A = machineId('a1');
const B = machineId('b2');
const KEY = keyOf('session');
const TTL_MS = 3_600_000;
const MAX_UNSEEN_MS = 1_000;

interface Counted {
  readonly store: LocalStore;
  /** The number of lookups so far that read the file. */
  readonly readCount: () => number;
}

async function openCounted(
  place: Place,
  clock: TestClock,
  options: Partial<SqliteStoreOptions> = {},
): Promise<Counted> {
  let readCount = 0;
  const store = await place.open({
    clock,
    ...options,
    onOperation: (operation) => (readCount += operation === 'lookup' ? 1 : 0),
  });
  return { store, readCount: () => readCount };
}

/** The store under test, and another one on its file. */
async function start(t: TestContext, options: Partial<SqliteStoreOptions> = {}) {
  const place = await createPlace(t);
  const clock = createTestClock();
  const counted = await openCounted(place, clock, options);
  const other = await place.open({ clock });
  return { place, clock, ...counted, other };
}

function ownerOf(store: LocalStore, key = KEY): string {
  const found = store.lookup(key);
  return typeof found === 'string' ? found : found.machine;
}

/** A lookup, and the response to any query that the previous lookup sent to the thread. */
async function lookUpAndRespond(store: LocalStore, key = KEY): Promise<string> {
  const owner = ownerOf(store, key);
  await store.getMetrics();
  return owner;
}

/** Binds the session to A, and has it in the cache, fresh. */
async function claimAndKeep(store: LocalStore): Promise<void> {
  await claim(store, 'session');
  // The first response clears the cache.
  await lookUpAndRespond(store);
  assert.equal(ownerOf(store), A);
}

test('a cached binding is not read again while no other process writes, whatever we write', async (t) => {
  const { clock, store, readCount } = await start(t);
  await claimAndKeep(store);
  const before = readCount();
  for (let round = 0; round < 40; round += 1) {
    assert.equal(await lookUpAndRespond(store), A);
    await claim(store, `more-${round}`);
    await clock.advance(250);
  }
  assert.equal(readCount(), before);
});

test('after an idle pause the file is read once, and then no more', async (t) => {
  const { clock, store, readCount } = await start(t);
  await claimAndKeep(store);
  const before = readCount();
  await clock.advance(60_000);
  assert.equal(await lookUpAndRespond(store), A);
  assert.equal(readCount(), before + 1);
  assert.equal(await lookUpAndRespond(store), A);
  assert.equal(readCount(), before + 1);
});

test('a change by another process is visible after the next query under load, and immediately after a pause', async (t) => {
  const { clock, store, other } = await start(t);
  await claimAndKeep(store);
  await other.rebind(KEY, A, B, 'learned', TTL_MS);
  assert.equal(await lookUpAndRespond(store), A);
  await clock.advance(250);
  await lookUpAndRespond(store);
  assert.equal(ownerOf(store), B);
  await other.delete(KEY);
  await clock.advance(MAX_UNSEEN_MS);
  assert.equal(ownerOf(store), 'absent');
});

test('a change that our own write overlapped is visible, and so is a later one', async (t) => {
  const { clock, store, other } = await start(t);
  await claimAndKeep(store);
  await other.rebind(KEY, A, B, 'learned', TTL_MS);
  assert.equal((await claim(store, 'session')).machine, B);
  assert.equal(ownerOf(store), B);
  await other.delete(KEY);
  await clock.advance(250);
  await lookUpAndRespond(store);
  assert.equal(ownerOf(store), 'absent');
});

test('while the writer thread is stuck every lookup reads the file, so that no result is older than a second', async (t) => {
  const { place, clock, store, readCount } = await start(t, { retryCount: 0 });
  await claimAndKeep(store);
  const lock = holdWriteLock(place);
  // On a slow computer it may have timed out before the lock is released.
  const stuck = claim(store, 'stuck').catch(() => undefined);
  await clock.advance(MAX_UNSEEN_MS);
  const before = readCount();
  for (let count = 1; count <= 20; count += 1) {
    assert.equal(ownerOf(store), A);
    assert.equal(readCount(), before + count);
  }
  lock.release();
  await stuck;
  await store.getMetrics();
  await clock.advance(MAX_UNSEEN_MS);
  await lookUpAndRespond(store);
  const after = readCount();
  assert.equal(ownerOf(store), A);
  assert.equal(readCount(), after);
});

test('a change by another process while there was no thread is visible, and the cache works again', async (t) => {
  const opening = nextWorker();
  const { clock, store, other, readCount } = await start(t);
  const worker = await opening;
  await claimAndKeep(store);
  await worker.terminate();
  await other.rebind(KEY, A, B, 'learned', TTL_MS);
  await clock.advance(250);
  // Queries, and so starts another thread, whose data version may equal that of the first one.
  await lookUpAndRespond(store);
  assert.equal(ownerOf(store), B);
  const before = readCount();
  await clock.advance(250);
  assert.equal(await lookUpAndRespond(store), B);
  assert.equal(readCount(), before);
});

test('no result is older than a second, whatever two processes do to a key', async (t) => {
  const { clock, store, other } = await start(t);
  const stores = fc.constantFrom(store, other);
  const machines = fc.constantFrom(A, B);
  const writes = fc.oneof(
    fc.tuple(stores, machines).map(
      ([by, machine]) =>
        () =>
          claim(by, 'session', machine),
    ),
    fc.tuple(stores, machines).map(
      ([by, to]) =>
        () =>
          by.rebind(KEY, to === A ? B : A, to, 'learned', TTL_MS),
    ),
    stores.map((by) => () => by.delete(KEY)),
  );
  const reads = stores.map((by) => () => lookUpAndRespond(by));
  const pauses = fc.constantFrom(50, 250, 400, 999).map((ms) => () => clock.advance(ms));
  const sequences = fc.array(fc.oneof(writes, reads, pauses), { minLength: 1, maxLength: 30 });
  const property = fc.asyncProperty(sequences, async (steps) => {
    await store.delete(KEY);
    await clock.advance(MAX_UNSEEN_MS);
    /** The contents of the file, and when they were replaced. */
    const truths: { owner: string; until: number }[] = [{ owner: 'absent', until: Infinity }];
    for (const step of steps) {
      await step();
      const owner = await committedOwner(other);
      const last = truths.at(-1);
      if (last && last.owner !== owner) {
        last.until = clock.monotonicMs();
        truths.push({ owner, until: Infinity });
      }
      const recent = truths.filter(({ until }) => clock.monotonicMs() - until < MAX_UNSEEN_MS);
      for (const each of [store, other]) {
        assert.ok(recent.some((truth) => truth.owner === ownerOf(each)));
      }
    }
  });
  await fc.assert(property, { numRuns: 60 });
});

/** By the thread that writes, so that no cache is involved. */
async function committedOwner(store: LocalStore): Promise<string> {
  for await (const binding of store.entries()) if (binding.key === KEY) return binding.machine;
  return 'absent';
}
