import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Binding } from '../../src/session.ts';
import { createWritesInFlight } from '../../src/store/in-flight.ts';
import { createRemoteCache } from '../../src/store/remote-store.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';

const KEY = keyOf('session');

function start(maxEntries = 100) {
  const clock = createTestClock();
  const inFlight = createWritesInFlight<undefined>();
  const cache = createRemoteCache(clock, inFlight, maxEntries);
  const ownerOf = (key = KEY): string => cache.get(key)?.machine ?? 'no owner';
  /** Begins a write; the returned function ends it. */
  const beginWrite = (key = KEY) => {
    const end = cache.beginWrite(key);
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const done = inFlight.run({ kind: 'touch', key, now: 0, ttlMs: 1 }, () => promise);
    return async (after: Parameters<typeof end>[0]): Promise<void> => {
      resolve(undefined);
      await done;
      end(after);
    };
  };
  return { clock, cache, ownerOf, beginWrite };
}

function bindingOf(machine: string, clock: TestClock, { key = KEY, ttlMs = 60_000 } = {}): Binding {
  return {
    ...{ key, machine: machineId(machine), origin: 'learned', generation: 1 },
    createdAt: clock.now(),
    expiresAt: clock.now() + ttlMs,
  };
}

test('a result of the database is used for a second', async () => {
  const { clock, cache, ownerOf } = start();
  assert.equal(ownerOf(), 'no owner');
  cache.beginRead(KEY)(bindingOf('a1', clock));
  assert.equal(ownerOf(), 'a1');
  await clock.advance(999);
  assert.equal(ownerOf(), 'a1');
  await clock.advance(1);
  assert.equal(ownerOf(), 'no owner');
});

test('that second starts with the query, because the response may have been slow', async () => {
  const { clock, cache, ownerOf, beginWrite } = start();
  const endRead = cache.beginRead(KEY);
  const endWrite = beginWrite(keyOf('other'));
  await clock.advance(400);
  endRead(bindingOf('a1', clock));
  await endWrite(bindingOf('b2', clock, { key: keyOf('other') }));
  await clock.advance(599);
  assert.equal(ownerOf(), 'a1');
  assert.equal(ownerOf(keyOf('other')), 'b2');
  await clock.advance(1);
  assert.equal(ownerOf(), 'no owner');
  assert.equal(ownerOf(keyOf('other')), 'no owner');
});

test('a binding is not used past its expiry', async () => {
  const { clock, cache, ownerOf } = start();
  cache.beginRead(KEY)(bindingOf('a1', clock, { ttlMs: 10 }));
  await clock.advance(10);
  assert.equal(ownerOf(), 'no owner');
});

test('an absent key is never cached: another Machine may bind it at any moment', async () => {
  const { clock, cache, ownerOf, beginWrite } = start();
  cache.beginRead(KEY)('absent');
  assert.equal(ownerOf(), 'no owner');
  cache.beginRead(KEY)(bindingOf('a1', clock));
  await beginWrite()('absent');
  assert.equal(ownerOf(), 'no owner');
});

test('from the call of a write to its end the cache holds nothing for the key', async () => {
  const { clock, cache, ownerOf, beginWrite } = start();
  cache.beginRead(KEY)(bindingOf('a1', clock));
  const endWrite = beginWrite();
  assert.equal(ownerOf(), 'no owner');
  await endWrite(bindingOf('b2', clock));
  assert.equal(ownerOf(), 'b2');
});

test('after a failed write the cache holds nothing for the key', async () => {
  const { clock, cache, ownerOf, beginWrite } = start();
  cache.beginRead(KEY)(bindingOf('a1', clock));
  await beginWrite()('unknown');
  assert.equal(ownerOf(), 'no owner');
});

test('a read that overlaps a write is not cached, in any order of their starts and ends', async () => {
  const { clock, cache, ownerOf, beginWrite } = start();
  const before = bindingOf('a1', clock);
  const after = bindingOf('b2', clock);

  const readAcrossBegin = cache.beginRead(KEY);
  const endWrite = beginWrite();
  readAcrossBegin(before);
  cache.beginRead(KEY)(before);
  assert.equal(ownerOf(), 'no owner');
  await endWrite(after);
  assert.equal(ownerOf(), 'b2');

  const readAcrossAll = cache.beginRead(KEY);
  await beginWrite()(after);
  readAcrossAll(before);
  assert.equal(ownerOf(), 'b2');

  const failed = beginWrite();
  const readWithin = cache.beginRead(KEY);
  readWithin(before);
  await failed('unknown');
  assert.equal(ownerOf(), 'no owner');
});

test('of several concurrent writes only the last to end determines the value', async () => {
  const { clock, ownerOf, beginWrite } = start();
  const [endFirst, endSecond] = [beginWrite(), beginWrite()];
  await endFirst(bindingOf('a1', clock));
  assert.equal(ownerOf(), 'no owner');
  await endSecond(bindingOf('b2', clock));
  assert.equal(ownerOf(), 'b2');
});

test('a write of one key does not affect others', async () => {
  const { clock, cache, ownerOf, beginWrite } = start();
  const other = keyOf('other');
  const endRead = cache.beginRead(other);
  const endWrite = beginWrite();
  endRead(bindingOf('a1', clock, { key: other }));
  assert.equal(ownerOf(other), 'a1');
  await endWrite('unknown');
  assert.equal(ownerOf(other), 'a1');
});

test('a removed entry is not restored by the response to an earlier query', () => {
  const { clock, cache, ownerOf } = start();
  const endRead = cache.beginRead(KEY);
  cache.forget([KEY]);
  endRead(bindingOf('a1', clock));
  assert.equal(ownerOf(), 'no owner');
  cache.beginRead(KEY)(bindingOf('a1', clock));
  assert.equal(ownerOf(), 'a1');
});

test('holds no more than its limit', () => {
  const { clock, cache } = start(10);
  const keys = Array.from({ length: 50 }, (_, index) => keyOf(`k${index}`));
  for (const key of keys) cache.beginRead(key)(bindingOf('a1', clock, { key }));
  assert.equal(keys.filter((key) => cache.get(key)).length, 10);
});
