import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRateLimitedReport } from '../../src/observability/log.ts';
import { createTestClock } from '../support/clock.ts';

test('a repeated failure is reported immediately, and then once per interval with the count', async () => {
  const clock = createTestClock();
  const reported: [string, number][] = [];
  const report = createRateLimitedReport<string>(clock, 10_000, (...one) => reported.push(one));
  for (let i = 0; i < 100; i += 1) report('bind');
  assert.deepEqual(reported, [['bind', 0]]);
  await clock.advance(10_000);
  report('touch');
  report('touch');
  assert.deepEqual(reported.slice(1), [['touch', 99]]);
});
