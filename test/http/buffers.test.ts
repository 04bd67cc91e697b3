import { BufferBudget, ReadBuffers } from '../../src/http/buffers.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';

test('a budget counts what all accounts hold now, and is exhausted above its limit', () => {
  const budget = new BufferBudget(100);
  const [one, other] = [budget.open(), budget.open()];
  assert.deepEqual([budget.heldBytes, budget.isExhausted], [0, false]);
  one.set(60);
  other.set(40);
  assert.deepEqual([budget.heldBytes, budget.isExhausted], [100, false]);
  other.set(41);
  assert.deepEqual([budget.heldBytes, budget.isExhausted], [101, true]);
  one.set(60);
  assert.equal(budget.heldBytes, 101);
  one.set(10);
  assert.deepEqual([budget.heldBytes, budget.isExhausted], [51, false]);
  one.set(0);
  other.set(0);
  other.set(0);
  assert.deepEqual([budget.heldBytes, budget.isExhausted], [0, false]);
});

test('a buffer comes back to the next reader only when it was given back', () => {
  const buffers = new ReadBuffers();
  const [first, second] = [buffers.take(), buffers.take()];
  assert.ok(first && second);
  assert.notEqual(first, second, 'it is still the first reader’s');
  assert.notEqual(first, buffers.shared);
  buffers.giveBack(first, false);
  assert.equal(buffers.take(), first);
  assert.notEqual(buffers.take(), first);
});

test('a buffer that a socket still writes from is left to the garbage collector', () => {
  const buffers = new ReadBuffers();
  const inUse = buffers.take();
  assert.ok(inUse);
  buffers.giveBack(inUse, true);
  assert.notEqual(buffers.take(), inUse);
});

test('connections can have no more than 64 buffers of their own at one time', () => {
  const buffers = new ReadBuffers();
  const taken = Array.from({ length: 64 }, () => buffers.take());
  assert.ok(taken.every((buffer) => buffer !== undefined));
  assert.equal(buffers.take(), undefined);
  const [one] = taken;
  assert.ok(one);
  buffers.giveBack(one, true);
  assert.ok(buffers.take());
  assert.equal(buffers.take(), undefined);
});

test('what is kept for later reads is bounded', () => {
  const buffers = new ReadBuffers();
  const take = (): (Buffer | undefined)[] => Array.from({ length: 64 }, () => buffers.take());
  const first = take();
  for (const buffer of first) if (buffer) buffers.giveBack(buffer, false);
  const kept = take().filter((buffer) => first.includes(buffer));
  assert.equal(kept.length, 16);
});
