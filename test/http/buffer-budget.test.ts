import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BufferBudget } from '../../src/http/buffer-budget.ts';

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
