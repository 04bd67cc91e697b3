import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createMemoryStore } from '../../../src/store/memory.ts';
import type { SessionStore } from '../../../src/store/store.ts';
import { createTestClock } from '../../support/clock.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { createPlace } from '../place.ts';

/** An operation on a store. */
type Step = (store: SessionStore) => unknown;
/** What follows it: nothing, an await of the writes, or a time step. */
type Pause = 'none' | 'settle' | number;

const keys = fc.constantFrom(keyOf('k'), keyOf('l'));
const machines = fc.constantFrom(machineId('a1'), machineId('b2'), machineId('c3'));
const origins = fc.constantFrom('learned' as const, 'adopted' as const, 'copied' as const);
const ttls = fc.constantFrom(0, 10, 1_000, 60_000);
const generations = fc.integer({ min: 1, max: 4 });

const steps: fc.Arbitrary<Step> = fc.oneof(
  fc.tuple(keys, machines, origins, ttls).map(
    ([key, machine, origin, ttlMs]): Step =>
      (store) =>
        store.claim({ key, machine, origin, ttlMs }),
  ),
  fc.tuple(keys, machines, origins, generations, ttls).map(
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
  fc.tuple(keys, fc.option(machines, { nil: undefined })).map(
    ([key, ifMachine]): Step =>
      (store) =>
        store.delete(key, ifMachine),
  ),
  fc.constant<Step>((store) => store.cleanup()),
);
const pauses: fc.Arbitrary<Pause> = fc.oneof(
  { weight: 3, arbitrary: fc.constant<Pause>('none') },
  fc.constant<Pause>('settle'),
  fc.constantFrom<Pause[]>(1, 10, 1_000),
);

test('SQLite returns what memory returns, however many writes are in progress', async (t) => {
  const place = await createPlace(t);
  const limits = { maxSessions: 1_000, maxAgeMs: 90_000 };
  const clock = createTestClock();
  const sqlite = await place.open({ clock, limits });
  const sequence = fc.array(fc.tuple(steps, pauses), { minLength: 1, maxLength: 40 });
  const property = fc.asyncProperty(sequence, async (pairs) => {
    const memory = createMemoryStore({ clock, limits });
    await Promise.all([sqlite.delete(keyOf('k')), sqlite.delete(keyOf('l'))]);
    const results: Promise<[unknown, unknown]>[] = [];
    for (const [step, pause] of pairs) {
      results.push(Promise.all([step(sqlite), step(memory)]));
      if (pause === 'settle') await Promise.all(results);
      else if (pause !== 'none') await clock.advance(pause);
      for (const key of [keyOf('k'), keyOf('l')]) {
        assert.deepEqual(sqlite.lookup(key), memory.lookup(key));
      }
    }
    for (const [fromSqlite, fromMemory] of await Promise.all(results)) {
      assert.deepEqual(fromSqlite, fromMemory);
    }
  });
  await fc.assert(property, { numRuns: 150 });
});
