import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { describe, test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { StoreError } from '../../../src/store/store.ts';
import { createTestClock } from '../../support/clock.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { claim, ownerOf } from '../claims.ts';
import { storeContract, type OpenStore } from '../contract.ts';
import { agreesWithTheRules } from '../model.ts';
import { createPlace, holdWriteLock, type Place } from '../place.ts';

const A = machineId('a1');
const B = machineId('b2');
const TTL_MS = 60_000;

/** One place per test, however many stores it opens. */
const places = new WeakMap<TestContext, Promise<Place>>();

const open: OpenStore = async (t, { clock, limits, place }) => {
  const placing = places.get(t) ?? createPlace(t);
  places.set(t, placing);
  const files = await placing;
  return files.open({ path: files.path(`${place}.sqlite`), clock, limits });
};

storeContract('SQLite', open, { canShare: true });
agreesWithTheRules('SQLite', open, { canShare: true });

describe('while another process holds the write lock', () => {
  test('lookups return, the event loop turns, claims wait, and then succeed in order', async (t) => {
    const place = await createPlace(t);
    const store = await place.open();
    await claim(store, 'old');
    const lock = holdWriteLock(place);
    let settledCount = 0;
    const claims = [claim(store, 'new', A), claim(store, 'new', B), claim(store, 'newer', B)];
    for (const each of claims) void each.then(() => (settledCount += 1));
    for (let turn = 0; turn < 100; turn += 1) {
      assert.equal(ownerOf(store, 'old'), A);
      assert.equal(ownerOf(store, 'new'), A);
      assert.equal(ownerOf(store, 'newer'), B);
      assert.equal(ownerOf(store, 'none'), 'absent');
      await nextTurn();
    }
    assert.equal(settledCount, 0);
    lock.release();
    assert.deepEqual(
      (await Promise.all(claims)).map(({ machine }) => machine),
      [A, A, B],
    );
  });

  test('a write that has used up its attempts is rejected as passing, and no longer visible', async (t) => {
    const place = await createPlace(t);
    const store = await place.open({ retryCount: 0 });
    const lock = holdWriteLock(place);
    const claimed = claim(store, 'new');
    assert.equal(ownerOf(store, 'new'), A);
    await assert.rejects(claimed, { name: 'StoreError', code: 'passing', message: /lock/ });
    assert.equal(ownerOf(store, 'new'), 'absent');
    assert.equal((await store.getMetrics()).errors, 1);
    lock.release();
    assert.equal((await claim(store, 'new', B)).machine, B);
  });

  test('a pause between attempts uses the clock, and a close ends it early', async (t) => {
    const place = await createPlace(t);
    const clock = createTestClock();
    const store = await place.open({ clock, retryCount: 1, retryDelayMs: 100, random: () => 0.5 });
    const lock = holdWriteLock(place);
    const claimed = claim(store, 'new');
    while (clock.pendingCount() === 0) await nextTurn();
    lock.release();
    await store.close();
    assert.equal((await claimed).machine, A);
    assert.equal(clock.pendingCount(), 0);
  });
});

describe('a failure', () => {
  test('of one write does not affect the others of its batch', async (t) => {
    const store = await (await createPlace(t)).open();
    const stated = { key: keyOf('bad'), machine: A, origin: 'copied', ttlMs: TTL_MS } as const;
    // The first is sent alone; the others are one batch.
    const results = await Promise.allSettled([
      claim(store, 'first'),
      claim(store, 'second'),
      store.upsert({ ...stated, generation: 1.5 }),
      claim(store, 'third'),
    ]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ['fulfilled', 'fulfilled', 'rejected', 'fulfilled'],
    );
    assert.equal(ownerOf(store, 'third'), A);
    assert.equal(ownerOf(store, 'bad'), 'absent');
    assert.equal((await store.getMetrics()).total, 3);
  });
});

test('nothing keeps running once the stores are closed', async (t) => {
  const place = await createPlace(t);
  const threads = (): string[] =>
    process.getActiveResourcesInfo().filter((name) => /Worker|MessagePort|Timeout/.test(name));
  for (let round = 0; round < 3; round += 1) {
    const stores = await Promise.all([place.open(), place.open()]);
    assert.equal(threads().length, 2);
    const claims = stores.map((store) => claim(store, 'session'));
    // A query to the thread is in progress when it is closed.
    assert.deepEqual(
      stores.map((store) => ownerOf(store, 'none')),
      ['absent', 'absent'],
    );
    await Promise.all(stores.map((store) => store.close()));
    await Promise.all(claims);
  }
  assert.deepEqual(threads(), []);
  // The last connection to close removes the other two files: none is open any more.
  assert.deepEqual(await readdir(place.directory), ['store.sqlite']);
});

test('an orderly close reports nothing', async (t) => {
  const errors: StoreError[] = [];
  const place = await createPlace(t);
  const store = await place.open({ onError: (error) => errors.push(error) });
  await claim(store, 'session');
  await store.close();
  assert.deepEqual(errors, []);
});

test('operations are reported with their outcome, hot reads are not', async (t) => {
  const reported: string[] = [];
  const place = await createPlace(t);
  const store = await place.open({
    onOperation: (operation, outcome) => reported.push(`${operation} ${outcome}`),
  });
  ownerOf(store, 'none');
  await claim(store, 'a');
  ownerOf(store, 'a');
  await store.cleanup();
  await store.close();
  await claim(store, 'a').catch(() => undefined);
  assert.deepEqual(reported, ['lookup ok', 'claim ok', 'cleanup ok', 'claim error']);
});
