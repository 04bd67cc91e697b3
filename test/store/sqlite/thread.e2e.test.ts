/** The writer thread dies at any moment: operations in progress are completed once and in order. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import '../../support/property-seed.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import type { LocalStore, SessionStore, StoreError } from '../../../src/store/store.ts';
import { createTestClock, type TestClock } from '../../support/clock.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { claim, ownerOf } from '../claims.ts';
import { createPlace } from '../place.ts';

const A = machineId('a1');
const B = machineId('b2');
const TTL_MS = 3_600_000;
const RESTART_PAUSE_MS = 1_000;

interface Scenario {
  readonly store: LocalStore;
  readonly clock: TestClock;
  readonly errors: StoreError[];
  /** All threads that were started; the last one is active. */
  readonly workers: Worker[];
  /** Terminates the thread, and advances past the pause after which another may start. */
  readonly kill: () => Promise<void>;
}

async function start(t: TestContext): Promise<Scenario> {
  const workers: Worker[] = [];
  const onWorker = (worker: Worker): void => void workers.push(worker);
  process.on('worker', onWorker);
  t.after(() => void process.off('worker', onWorker));
  const clock = createTestClock();
  const errors: StoreError[] = [];
  const place = await createPlace(t);
  const store = await place.open({
    clock,
    onError: (error) => errors.push(error),
    limits: { maxSessions: 100_000, maxAgeMs: 0 },
  });
  const kill = async (): Promise<void> => {
    await workers.at(-1)?.terminate();
    await clock.advance(RESTART_PAUSE_MS);
  };
  return { store, clock, errors, workers, kill };
}

/** Advances time until the condition holds: a delayed restart needs it. */
async function passTimeUntil(clock: TestClock, isSo: () => boolean): Promise<void> {
  while (!isSo()) {
    await nextTurn();
    if (clock.pendingCount() > 0) await clock.advance(RESTART_PAUSE_MS);
  }
}

test('operations without a response from a dead thread are completed by the next one', async (t) => {
  const { store, errors, kill } = await start(t);
  await claim(store, 'before');
  const claims = [claim(store, 'sent'), claim(store, 'queued', B), claim(store, 'sent', B)];
  await kill();
  assert.deepEqual(
    (await Promise.all(claims)).map(({ machine }) => machine),
    [A, B, A],
  );
  assert.deepEqual(
    ['before', 'sent', 'queued'].map((name) => ownerOf(store, name)),
    [A, A, B],
  );
  assert.deepEqual(
    errors.map(({ code }) => code),
    ['passing'],
  );
});

test('under load, threads that die at random moments lose nothing and repeat nothing', async (t) => {
  const { store, clock, errors, kill } = await start(t);
  const names = Array.from({ length: 1_000 }, (_, index) => `s${index}`);
  let settledCount = 0;
  const count = (): void => void (settledCount += 1);
  const writes = names.flatMap((name) => [
    claim(store, name),
    store.rebind(keyOf(name), A, B, 'adopted', TTL_MS),
  ]);
  for (const write of writes) void write.then(count, count);
  for (let deaths = 1; deaths <= 10; deaths += 1) {
    const share = (deaths + Math.random()) / 12;
    await passTimeUntil(clock, () => settledCount > share * writes.length);
    await kill();
  }
  await passTimeUntil(clock, () => settledCount === writes.length);
  const generations = (await Promise.all(writes)).map((binding) => binding?.generation);
  assert.deepEqual(
    generations,
    names.flatMap(() => [1, 2]),
  );
  for (const name of names) assert.equal(ownerOf(store, name), B);
  assert.equal((await store.getMetrics()).total, names.length);
  assert.equal(errors.length, 10);
});

test('when every thread dies at its start, all waiting operations fail after three, and later ones work', async (t) => {
  const { store, clock, workers, kill } = await start(t);
  await kill();
  const startedAt: number[] = [];
  const killer = (worker: Worker): void => {
    startedAt.push(clock.monotonicMs());
    void worker.terminate();
  };
  process.on('worker', killer);
  t.after(() => void process.off('worker', killer));
  const writes = [claim(store, 'first'), claim(store, 'first', B), store.cleanup()];
  const results = Promise.all(
    writes.map((write) => assert.rejects(write, { code: 'passing', message: /dying/ })),
  );
  let isDone = false;
  void results.then(() => (isDone = true));
  await passTimeUntil(clock, () => isDone);
  await results;
  assert.deepEqual(startedAt, [1_000, 2_000, 3_000]);
  assert.equal(ownerOf(store, 'first'), 'absent');
  process.off('worker', killer);
  await clock.advance(RESTART_PAUSE_MS);
  assert.equal((await claim(store, 'first', B)).machine, B);
  assert.equal(workers.length, 5);
});

test("a close completes the operations in progress without waiting for a restart's pause", async (t) => {
  const { store, clock, workers } = await start(t);
  for (let round = 0; round < 2; round += 1) {
    await claim(store, `before-${round}`);
    await workers.at(-1)?.terminate();
  }
  const claimed = claim(store, 'last');
  while (clock.pendingCount() === 0) await nextTurn();
  await store.close();
  assert.equal((await claimed).machine, A);
  assert.equal(clock.pendingCount(), 0);
});

const keys = fc.constantFrom(keyOf('k'), keyOf('l'));
const machines = fc.constantFrom(A, B);
const origins = fc.constantFrom('learned' as const, 'adopted' as const, 'copied' as const);
const ttls = fc.constantFrom(10, 1_000, TTL_MS);
type Step = (store: SessionStore) => Promise<unknown>;
const steps: fc.Arbitrary<Step> = fc.oneof(
  fc.tuple(keys, machines, origins, ttls).map(
    ([key, machine, origin, ttlMs]): Step =>
      (store) =>
        store.claim({ key, machine, origin, ttlMs }),
  ),
  fc.tuple(keys, machines, origins, fc.integer({ min: 1, max: 4 }), ttls).map(
    ([key, machine, origin, generation, ttlMs]): Step =>
      (store) =>
        store.upsert({ key, machine, origin, generation, ttlMs }),
  ),
  fc.tuple(keys, machines, machines, origins, ttls).map(
    ([key, from, to, origin, ttlMs]): Step =>
      (store) =>
        store.rebind(key, from, to, origin, ttlMs),
  ),
  fc.tuple(keys, ttls).map(
    ([key, ttlMs]): Step =>
      (store) =>
        store.touch(key, ttlMs),
  ),
  fc.tuple(keys, ttls).map(
    ([key, ttlMs]): Step =>
      (store) =>
        store.expireWithin(key, ttlMs),
  ),
  // Its result is the one thing that may be lost.
  fc
    .tuple(keys, fc.option(machines, { nil: undefined }))
    .map(([key, ifMachine]): Step => async (store) => {
      await store.delete(key, ifMachine);
    }),
);

test('whenever its threads die, the store returns what memory returns', async (t) => {
  const { store, clock, workers } = await start(t);
  const sequence = fc.array(
    fc.tuple(steps, fc.constantFrom('on', 'on', 'on', 'turn', 'turn', 'kill')),
    {
      minLength: 1,
      maxLength: 25,
    },
  );
  const property = fc.asyncProperty(sequence, async (pairs) => {
    const memory = createMemoryStore({ clock, limits: { maxSessions: 1_000, maxAgeMs: 0 } });
    await clock.advance(TTL_MS);
    const results: Promise<[unknown, unknown]>[] = [];
    for (const [step, then] of pairs) {
      results.push(Promise.all([step(store), step(memory)]));
      if (then === 'turn') await nextTurn();
      if (then === 'kill') await workers.at(-1)?.terminate();
      for (const key of [keyOf('k'), keyOf('l')]) {
        assert.deepEqual(store.lookup(key), memory.lookup(key));
      }
    }
    const all = Promise.all(results);
    let isSettled = false;
    void all.finally(() => (isSettled = true)).catch(() => undefined);
    await passTimeUntil(clock, () => isSettled);
    for (const [fromSqlite, fromMemory] of await all) assert.deepEqual(fromSqlite, fromMemory);
  });
  await fc.assert(property, { numRuns: 20 });
});
