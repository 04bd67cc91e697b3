import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReadBuffers } from '../../src/http/read-buffers.ts';

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
