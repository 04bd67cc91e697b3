import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Binding } from '../../src/session.ts';
import { createRemoteCache } from '../../src/store/remote-cache.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';

const KEY = keyOf('session');

function start(maxEntries = 100) {
  const clock = createTestClock();
  const cache = createRemoteCache(clock, maxEntries);
  const ownerOf = (key = KEY): string => cache.get(key)?.machine ?? 'no owner';
  return { clock, cache, ownerOf };
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
  const { clock, cache, ownerOf } = start();
  const endRead = cache.beginRead(KEY);
  const endWrite = cache.beginWrite(keyOf('other'));
  await clock.advance(400);
  endRead(bindingOf('a1', clock));
  endWrite(bindingOf('b2', clock, { key: keyOf('other') }));
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

test('an absent key is never cached: another Machine may bind it at any moment', () => {
  const { clock, cache, ownerOf } = start();
  cache.beginRead(KEY)('absent');
  assert.equal(ownerOf(), 'no owner');
  cache.beginRead(KEY)(bindingOf('a1', clock));
  cache.beginWrite(KEY)('absent');
  assert.equal(ownerOf(), 'no owner');
});

test('from the call of a write to its end the cache holds nothing for the key', () => {
  const { clock, cache, ownerOf } = start();
  cache.beginRead(KEY)(bindingOf('a1', clock));
  const endWrite = cache.beginWrite(KEY);
  assert.equal(ownerOf(), 'no owner');
  endWrite(bindingOf('b2', clock));
  assert.equal(ownerOf(), 'b2');
});

test('after a failed write the cache holds nothing for the key', () => {
  const { clock, cache, ownerOf } = start();
  cache.beginRead(KEY)(bindingOf('a1', clock));
  cache.beginWrite(KEY)('unknown');
  assert.equal(ownerOf(), 'no owner');
});

test('a read that overlaps a write is not cached, in any order of their starts and ends', () => {
  const { clock, cache, ownerOf } = start();
  const before = bindingOf('a1', clock);
  const after = bindingOf('b2', clock);

  const readAcrossBegin = cache.beginRead(KEY);
  const endWrite = cache.beginWrite(KEY);
  readAcrossBegin(before);
  cache.beginRead(KEY)(before);
  assert.equal(ownerOf(), 'no owner');
  const readAcrossEnd = cache.beginRead(KEY);
  endWrite(after);
  readAcrossEnd(before);
  assert.equal(ownerOf(), 'b2');

  const readAcrossAll = cache.beginRead(KEY);
  cache.beginWrite(KEY)(after);
  readAcrossAll(before);
  assert.equal(ownerOf(), 'b2');

  const failed = cache.beginWrite(KEY);
  const readWithin = cache.beginRead(KEY);
  failed('unknown');
  readWithin(before);
  assert.equal(ownerOf(), 'no owner');
});

test('of several concurrent writes only the last to end determines the value', () => {
  const { clock, cache, ownerOf } = start();
  const [endFirst, endSecond] = [cache.beginWrite(KEY), cache.beginWrite(KEY)];
  endFirst(bindingOf('a1', clock));
  assert.equal(ownerOf(), 'no owner');
  endSecond(bindingOf('b2', clock));
  assert.equal(ownerOf(), 'b2');
});

test('a write of one key does not affect others', () => {
  const { clock, cache, ownerOf } = start();
  const other = keyOf('other');
  const endRead = cache.beginRead(other);
  const endWrite = cache.beginWrite(KEY);
  endRead(bindingOf('a1', clock, { key: other }));
  assert.equal(ownerOf(other), 'a1');
  endWrite('unknown');
  assert.equal(ownerOf(other), 'a1');
});

test('a removed entry is not restored by the response to an earlier query', () => {
  const { clock, cache, ownerOf } = start();
  const [endFirst, endSecond] = [cache.beginRead(KEY), cache.beginRead(keyOf('other'))];
  cache.delete(KEY);
  endFirst(bindingOf('a1', clock));
  assert.equal(ownerOf(), 'no owner');
  cache.clear();
  endSecond(bindingOf('a1', clock, { key: keyOf('other') }));
  assert.equal(ownerOf(keyOf('other')), 'no owner');
  cache.beginRead(KEY)(bindingOf('a1', clock));
  assert.equal(ownerOf(), 'a1');
});

test('holds no more than its limit', () => {
  const { clock, cache } = start(10);
  const keys = Array.from({ length: 50 }, (_, index) => keyOf(`k${index}`));
  for (const key of keys) cache.beginRead(key)(bindingOf('a1', clock, { key }));
  assert.equal(keys.filter((key) => cache.get(key)).length, 10);
});
