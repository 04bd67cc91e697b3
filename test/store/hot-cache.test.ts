import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Binding } from '../../src/session.ts';
import { createHotCache, type HotCache } from '../../src/store/hot-cache.ts';
import { keyOf, machineId } from '../support/ids.ts';

const NOW = 1_000_000;

function binding(name: string, expiresAt = NOW + 60_000): Binding {
  return {
    key: keyOf(name),
    machine: machineId('m'),
    origin: 'learned',
    generation: 1,
    createdAt: NOW,
    expiresAt,
  };
}

function names(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${index}`);
}

function held(hot: HotCache<Binding>, candidates: readonly string[]): string[] {
  return candidates.filter((name) => hot.get(keyOf(name), NOW) !== undefined);
}

test('an entry has no age', () => {
  const hot = createHotCache<Binding>(10);
  hot.set(binding('a', NOW + 1e9));
  assert.deepEqual(hot.get(keyOf('a'), NOW + 1e9 - 1), binding('a', NOW + 1e9));
});

test('an entry does not outlive its binding', () => {
  const hot = createHotCache<Binding>(10);
  hot.set(binding('a', NOW + 5));
  assert.equal(hot.get(keyOf('a'), NOW + 5), undefined);
});

test('a clock that is set back invalidates all entries', () => {
  const hot = createHotCache<Binding>(10);
  hot.set(binding('a', NOW + 5));
  assert.equal(hot.get(keyOf('b'), NOW + 10), undefined);
  assert.equal(hot.get(keyOf('a'), NOW), undefined);
});

test('expired entries are dropped, a few at a time', () => {
  const hot = createHotCache<Binding>(10);
  const all = names('k', 7);
  for (const [index, name] of all.entries())
    hot.set(binding(name, NOW + (index % 3 === 0 ? 20 : 5)));
  const left: string[][] = [];
  for (let turn = 0; turn < 5; turn += 1) {
    hot.forgetExpired(NOW + (turn < 4 ? 10 : 30), 2);
    left.push(held(hot, all));
  }
  assert.deepEqual(left, [
    ['k0', 'k2', 'k3', 'k4', 'k5', 'k6'],
    ['k0', 'k3', 'k4', 'k5', 'k6'],
    ['k0', 'k3', 'k6'],
    ['k0', 'k3', 'k6'],
    ['k6'],
  ]);
});

test('setting an entry again updates its value and its place in the queue', () => {
  const hot = createHotCache<Binding>(2);
  for (const expiresAt of [NOW + 1, NOW + 2, NOW + 3]) hot.set(binding('a', expiresAt));
  hot.set(binding('b'));
  assert.equal(hot.get(keyOf('a'), NOW)?.expiresAt, NOW + 3);
  assert.deepEqual(held(hot, ['a', 'b']), ['a', 'b']);
});

test('the cache holds as many entries as its limit, and never more', () => {
  const hot = createHotCache<Binding>(10);
  const all = names('k', 100);
  for (const name of all) hot.set(binding(name));
  assert.equal(held(hot, all).length, 10);
  assert.ok(held(hot, all).includes('k99'));
});

test('entries in use survive a flood of keys that are looked up once', () => {
  const hot = createHotCache<Binding>(100);
  const used = names('used', 50);
  for (const name of used) hot.set(binding(name));
  for (const [index, name] of names('flood', 10_000).entries()) {
    hot.set(binding(name));
    if (index % 40 === 0) assert.equal(held(hot, used).length, 50);
  }
});

test('a new entry fits although every entry is in use', () => {
  const hot = createHotCache<Binding>(1_000);
  const used = names('used', 1_000);
  for (const name of used) hot.set(binding(name));
  assert.equal(held(hot, used).length, 1_000);
  hot.set(binding('new'));
  assert.equal(held(hot, [...used, 'new']).length, 1_000);
  assert.deepEqual(held(hot, ['new']), ['new']);
});

test('the newest entry is not evicted next when every entry was in use', () => {
  const hot = createHotCache<Binding>(10);
  const used = names('used', 10);
  for (const name of used) hot.set(binding(name));
  assert.equal(held(hot, used).length, 10);
  const late = names('late', 5);
  for (const name of late) hot.set(binding(name));
  assert.deepEqual(held(hot, late), late);
});

test('with twice as many live sessions as capacity, half of the lookups are hits', () => {
  const hot = createHotCache<Binding>(1_000);
  const live = names('live', 2_000).map((name) => binding(name));
  let seed = 1;
  let hits = 0;
  for (let use = 0; use < 40_000; use += 1) {
    seed = (seed * 48_271) % 2_147_483_647;
    const session = live[seed % live.length];
    assert.ok(session);
    if (hot.get(session.key, NOW)) hits += 1;
    else hot.set(session);
  }
  assert.ok(hits > 18_000, `only ${hits} of 40,000`);
});

test('a deleted entry is gone, and its space is reused', () => {
  const hot = createHotCache<Binding>(4);
  for (const name of names('k', 6)) hot.set(binding(name));
  for (const name of names('k', 6)) hot.delete(keyOf(name));
  assert.deepEqual(held(hot, names('k', 6)), []);
  for (const name of names('l', 6)) hot.set(binding(name));
  assert.equal(held(hot, names('l', 6)).length, 4);
});

test('a cleared cache is empty and fills again', () => {
  const hot = createHotCache<Binding>(4);
  for (const name of names('k', 6)) hot.set(binding(name));
  hot.clear();
  assert.deepEqual(held(hot, names('k', 6)), []);
  for (const name of names('l', 6)) hot.set(binding(name));
  assert.equal(held(hot, names('l', 6)).length, 4);
});
