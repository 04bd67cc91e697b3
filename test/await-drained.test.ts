import assert from 'node:assert/strict';
import { test } from 'node:test';
import { awaitDrained } from '../src/await-drained.ts';
import { createTestClock, type TestClock } from './support/clock.ts';

interface Waiting {
  readonly clock: TestClock;
  readonly abort: () => void;
  readonly isOver: () => boolean;
}

function wait(hasWorkLeft: () => Promise<boolean>): Waiting {
  const clock = createTestClock();
  const aborting = new AbortController();
  const { signal } = aborting;
  let isOver = false;
  void awaitDrained({ clock, timeoutMs: 10_000, signal, hasWorkLeft }).then(() => (isOver = true));
  return { clock, abort: () => aborting.abort(), isOver: () => isOver };
}

const never = (): Promise<boolean> => new Promise(() => undefined);

test('is over when nothing is left, and looks again each second', async () => {
  let looks = 0;
  const { clock, isOver } = wait(() => Promise.resolve((looks += 1) < 3));
  await clock.advance(1_999);
  assert.deepEqual([looks, isOver()], [2, false]);
  await clock.advance(1);
  assert.deepEqual([looks, isOver(), clock.pendingCount()], [3, true, 0]);
});

for (const [claim, hasWorkLeft] of [
  ['something is always left', () => Promise.resolve(true)],
  ['a store never says what is left', never],
] as const) {
  test(`is over with its time where ${claim}`, async () => {
    const { clock, isOver } = wait(hasWorkLeft);
    await clock.advance(9_999);
    assert.equal(isOver(), false);
    await clock.advance(1);
    assert.deepEqual([isOver(), clock.pendingCount()], [true, 0]);
  });

  test(`is over at once when it is not waited for any more, where ${claim}`, async () => {
    const { clock, abort, isOver } = wait(hasWorkLeft);
    await clock.advance(500);
    abort();
    await clock.advance(0);
    assert.deepEqual([isOver(), clock.pendingCount()], [true, 0]);
  });
}
