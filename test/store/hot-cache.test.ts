import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Binding } from '../../src/affinity/session.ts';
import { createHotCache } from '../../src/store/hot-cache.ts';
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

test('an entry counts for its second and no longer', () => {
  const hot = createHotCache(10, 1_000);
  hot.set(binding('a'), NOW);
  assert.deepEqual(hot.get(keyOf('a'), NOW + 999), binding('a'));
  assert.equal(hot.get(keyOf('a'), NOW + 1_000), undefined);
});

test('an entry does not outlive its binding', () => {
  const hot = createHotCache(10, 1_000);
  hot.set(binding('a', NOW + 5), NOW);
  assert.equal(hot.get(keyOf('a'), NOW + 5), undefined);
});

test('a clock set back ends an entry', () => {
  const hot = createHotCache(10, 1_000);
  hot.set(binding('a'), NOW);
  assert.equal(hot.get(keyOf('a'), NOW - 1), undefined);
});

test('there are never more entries than the bound, and the newest are among them', () => {
  const hot = createHotCache(10, 1_000);
  const names = Array.from({ length: 100 }, (_, index) => `k${index}`);
  for (const name of names) hot.set(binding(name), NOW);
  const held = names.filter((name) => hot.get(keyOf(name), NOW) !== undefined);
  assert.ok(held.length <= 10);
  assert.deepEqual(held.slice(-5), names.slice(-5));
});

test('what is deleted is gone from both generations', () => {
  const hot = createHotCache(4, 1_000);
  for (const name of ['a', 'b', 'c']) hot.set(binding(name), NOW);
  for (const name of ['a', 'b', 'c']) hot.delete(keyOf(name));
  for (const name of ['a', 'b', 'c']) assert.equal(hot.get(keyOf(name), NOW), undefined);
});
