import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startCleanup } from '../../src/store/cleanup.ts';
import { StoreError } from '../../src/store/store.ts';
import { createTestClock } from '../support/clock.ts';

/** A store whose cleanups end when the test resolves them. */
function slowStore() {
  const underWay: PromiseWithResolvers<number>[] = [];
  return {
    underWay,
    cleanup: () => {
      const waits = Promise.withResolvers<number>();
      underWay.push(waits);
      return waits.promise;
    },
  };
}

const onError = (error: unknown): void => assert.fail(String(error));

test('a store is cleaned up once per interval', async () => {
  const clock = createTestClock();
  let count = 0;
  const cleanups = startCleanup(
    { cleanup: () => Promise.resolve((count += 1)) },
    { clock, intervalMs: 100, onError },
  );
  await clock.advance(350);
  assert.equal(count, 3);
  cleanups.cancel();
  await cleanups.ended();
  await clock.advance(1_000);
  assert.equal(count, 3);
  assert.equal(clock.pendingCount(), 0);
});

test('an interval of 0 starts no timer', async () => {
  const clock = createTestClock();
  const cleanups = startCleanup(slowStore(), { clock, intervalMs: 0, onError });
  assert.equal(clock.pendingCount(), 0);
  cleanups.cancel();
  await cleanups.ended();
});

test('a cleanup that takes longer than the interval is not started twice', async () => {
  const clock = createTestClock();
  const store = slowStore();
  const cleanups = startCleanup(store, { clock, intervalMs: 100, onError });
  await clock.advance(350);
  assert.equal(store.underWay.length, 1);
  store.underWay[0]?.resolve(0);
  await clock.advance(100);
  assert.equal(store.underWay.length, 2);
  store.underWay[1]?.resolve(0);
  cleanups.cancel();
  await cleanups.ended();
});

test('stopping waits for the cleanup in progress, and its failure on a closed store is not reported', async () => {
  const clock = createTestClock();
  const store = slowStore();
  const cleanups = startCleanup(store, { clock, intervalMs: 100, onError });
  await clock.advance(100);
  cleanups.cancel();
  let hasEnded = false;
  const ended = cleanups.ended().then(() => (hasEnded = true));
  await clock.advance(0);
  assert.equal(hasEnded, false);
  store.underWay[0]?.reject(new StoreError('closed', 'the session store is closed'));
  await ended;
});

test('a cleanup that fails is reported, and the next one runs', async () => {
  const clock = createTestClock();
  const errors: unknown[] = [];
  const failing = { cleanup: () => Promise.reject(new Error('no')) };
  const cleanups = startCleanup(failing, {
    clock,
    intervalMs: 100,
    onError: (error) => errors.push(error),
  });
  await clock.advance(250);
  assert.equal(errors.length, 2);
  cleanups.cancel();
  await cleanups.ended();
});
