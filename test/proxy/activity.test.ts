import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Activity } from '../../src/proxy/activity.ts';
import { createTestClock } from '../support/clock.ts';

test('a Machine that nobody has used is quiet', () => {
  assert.equal(new Activity(createTestClock()).msUntilQuiet(), 0);
});

test('it is quiet a second after the last of all requests has ended', async () => {
  const clock = createTestClock();
  const activity = new Activity(clock);
  const quietAfter = async (ms: number): Promise<number> => {
    await clock.advance(ms);
    return activity.msUntilQuiet();
  };
  activity.begin();
  activity.begin();
  assert.equal(await quietAfter(5_000), 1_000);
  activity.end();
  assert.equal(await quietAfter(5_000), 1_000);
  activity.end();
  assert.deepEqual([await quietAfter(400), await quietAfter(599)], [600, 1]);
  assert.deepEqual([await quietAfter(1), await quietAfter(1)], [0, 0]);
});
