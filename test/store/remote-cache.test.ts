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
  const ownerOf = (key = KEY): string => cache.get(key)?.machine ?? 'nobody known';
  return { clock, cache, ownerOf };
}

function bindingOf(machine: string, clock: TestClock, { key = KEY, ttlMs = 60_000 } = {}): Binding {
  return {
    ...{ key, machine: machineId(machine), origin: 'learned', generation: 1 },
    createdAt: clock.now(),
    expiresAt: clock.now() + ttlMs,
  };
}

test('what the database has said is believed for a second', async () => {
  const { clock, cache, ownerOf } = start();
  assert.equal(ownerOf(), 'nobody known');
  cache.beginRead(KEY)(bindingOf('a1', clock));
  assert.equal(ownerOf(), 'a1');
  await clock.advance(999);
  assert.equal(ownerOf(), 'a1');
  await clock.advance(1);
  assert.equal(ownerOf(), 'nobody known');
});

test('that second begins with the question, for the answer may have been slow to come', async () => {
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
  assert.equal(ownerOf(), 'nobody known');
  assert.equal(ownerOf(keyOf('other')), 'nobody known');
});

test('a binding is not believed past its expiry', async () => {
  const { clock, cache, ownerOf } = start();
  cache.beginRead(KEY)(bindingOf('a1', clock, { ttlMs: 10 }));
  await clock.advance(10);
  assert.equal(ownerOf(), 'nobody known');
});

test('what is absent is never held: another may bind it at any moment', () => {
  const { clock, cache, ownerOf } = start();
  cache.beginRead(KEY)('absent');
  assert.equal(ownerOf(), 'nobody known');
  cache.beginRead(KEY)(bindingOf('a1', clock));
  cache.beginWrite(KEY)('absent');
  assert.equal(ownerOf(), 'nobody known');
});

test('from the moment a write is called nothing is known until it has ended', () => {
  const { clock, cache, ownerOf } = start();
  cache.beginRead(KEY)(bindingOf('a1', clock));
  const endWrite = cache.beginWrite(KEY);
  assert.equal(ownerOf(), 'nobody known');
  endWrite(bindingOf('b2', clock));
  assert.equal(ownerOf(), 'b2');
});

test('of a write that failed nobody knows what it left', () => {
  const { clock, cache, ownerOf } = start();
  cache.beginRead(KEY)(bindingOf('a1', clock));
  cache.beginWrite(KEY)('unknown');
  assert.equal(ownerOf(), 'nobody known');
});

test('a read that a write has crossed is not believed, however they lie', () => {
  const { clock, cache, ownerOf } = start();
  const before = bindingOf('a1', clock);
  const after = bindingOf('b2', clock);

  const readAcrossBegin = cache.beginRead(KEY);
  const endWrite = cache.beginWrite(KEY);
  readAcrossBegin(before);
  cache.beginRead(KEY)(before);
  assert.equal(ownerOf(), 'nobody known');
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
  assert.equal(ownerOf(), 'nobody known');
});

test('of several writes at once only the last to end says what is there', () => {
  const { clock, cache, ownerOf } = start();
  const [endFirst, endSecond] = [cache.beginWrite(KEY), cache.beginWrite(KEY)];
  endFirst(bindingOf('a1', clock));
  assert.equal(ownerOf(), 'nobody known');
  endSecond(bindingOf('b2', clock));
  assert.equal(ownerOf(), 'b2');
});

test('a write of one key is nothing to the others', () => {
  const { clock, cache, ownerOf } = start();
  const other = keyOf('other');
  const endRead = cache.beginRead(other);
  const endWrite = cache.beginWrite(KEY);
  endRead(bindingOf('a1', clock, { key: other }));
  assert.equal(ownerOf(other), 'a1');
  endWrite('unknown');
  assert.equal(ownerOf(other), 'a1');
});

test('what was removed is not brought back by an answer to an earlier question', () => {
  const { clock, cache, ownerOf } = start();
  const [endFirst, endSecond] = [cache.beginRead(KEY), cache.beginRead(keyOf('other'))];
  cache.delete(KEY);
  endFirst(bindingOf('a1', clock));
  assert.equal(ownerOf(), 'nobody known');
  cache.clear();
  endSecond(bindingOf('a1', clock, { key: keyOf('other') }));
  assert.equal(ownerOf(keyOf('other')), 'nobody known');
  cache.beginRead(KEY)(bindingOf('a1', clock));
  assert.equal(ownerOf(), 'a1');
});

test('no more is held than there is room for', () => {
  const { clock, cache } = start(10);
  const keys = Array.from({ length: 50 }, (_, index) => keyOf(`k${index}`));
  for (const key of keys) cache.beginRead(key)(bindingOf('a1', clock, { key }));
  assert.equal(keys.filter((key) => cache.get(key)).length, 10);
});
