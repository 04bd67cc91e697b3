import assert from 'node:assert/strict';
import { test } from 'node:test';
import { awaitDrained } from '../../src/app/drain.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';

interface Waiting {
  readonly clock: TestClock;
  readonly abort: () => void;
  readonly isOver: () => boolean;
}

function wait(msUntilQuiet: () => number): Waiting {
  const clock = createTestClock();
  const aborting = new AbortController();
  const { signal } = aborting;
  let isOver = false;
  void awaitDrained({ clock, timeoutMs: 10_000, signal, msUntilQuiet }).then(() => (isOver = true));
  return { clock, abort: () => aborting.abort(), isOver: () => isOver };
}

test('ends immediately when it is quiet', async () => {
  const { clock, isOver } = wait(() => 0);
  await clock.advance(0);
  assert.deepEqual([isOver(), clock.pendingCount()], [true, 0]);
});

test('checks again when it may be quiet, and ends when it is', async () => {
  const remaining = [700, 300, 0];
  const { clock, isOver } = wait(() => remaining.shift() ?? 0);
  await clock.advance(999);
  assert.deepEqual([remaining, isOver()], [[0], false]);
  await clock.advance(1);
  assert.deepEqual([remaining, isOver(), clock.pendingCount()], [[], true, 0]);
});

for (const waitMs of [1_000, 60_000]) {
  test(`ends at its timeout when it is never quiet, with a check every ${waitMs} ms`, async () => {
    const { clock, isOver } = wait(() => waitMs);
    await clock.advance(9_999);
    assert.equal(isOver(), false);
    await clock.advance(1);
    assert.deepEqual([isOver(), clock.pendingCount()], [true, 0]);
  });
}

test('ends immediately when its caller aborts it', async () => {
  const { clock, abort, isOver } = wait(() => 1_000);
  await clock.advance(500);
  abort();
  await clock.advance(0);
  assert.deepEqual([isOver(), clock.pendingCount()], [true, 0]);
});
