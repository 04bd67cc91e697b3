import { BufferBudget, ReadBuffers } from '../../src/http/buffers.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';

test('a budget sums the current bytes of all accounts, and is exhausted above its limit', () => {
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

test('a buffer is reused only after it is given back', () => {
  const buffers = new ReadBuffers();
  const [first, second] = [buffers.take(), buffers.take()];
  assert.ok(first && second);
  assert.notEqual(first, second, 'the first reader still uses it');
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

test('at most 64 buffers are taken at one time', () => {
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

test('at most 16 buffers are kept for later reads', () => {
  const buffers = new ReadBuffers();
  const take = (): (Buffer | undefined)[] => Array.from({ length: 64 }, () => buffers.take());
  const first = take();
  for (const buffer of first) if (buffer) buffers.giveBack(buffer, false);
  const kept = take().filter((buffer) => first.includes(buffer));
  assert.equal(kept.length, 16);
});
