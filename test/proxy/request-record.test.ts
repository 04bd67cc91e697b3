import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nullLogger } from '../../src/observability/log.ts';
import { nullMetrics } from '../../src/observability/metrics.ts';
import { RequestRecorder } from '../../src/proxy/request-record.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';

const REQUEST = { requestId: 'r1', head: { method: 'GET', target: '/', rawHeaders: [] } };

function createRecorder(clock: TestClock): RequestRecorder {
  return new RequestRecorder({ clock, logger: nullLogger, metrics: nullMetrics });
}

test('msUntilQuiet() is 0 before the first request', () => {
  assert.equal(createRecorder(createTestClock()).msUntilQuiet(), 0);
});

test('msUntilQuiet() reaches 0 one second after the last request ended', async () => {
  const clock = createTestClock();
  const recorder = createRecorder(clock);
  const quietAfter = async (ms: number): Promise<number> => {
    await clock.advance(ms);
    return recorder.msUntilQuiet();
  };
  const [first, second] = [recorder.begin(), recorder.begin()];
  assert.equal(await quietAfter(5_000), 1_000);
  first.end(REQUEST);
  assert.equal(await quietAfter(5_000), 1_000);
  second.end(REQUEST);
  assert.deepEqual([await quietAfter(400), await quietAfter(599)], [600, 1]);
  assert.deepEqual([await quietAfter(1), await quietAfter(1)], [0, 0]);
});
