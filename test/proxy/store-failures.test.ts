import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createStoreFailureReport, type StoreFailure } from '../../src/proxy/store-failures.ts';
import { createTestClock } from '../support/clock.ts';

test('a store that fails with every request is told of at once, and then once in ten seconds, with the number', async () => {
  const clock = createTestClock();
  const told: StoreFailure[] = [];
  const onFailure = createStoreFailureReport(clock, (failure) => told.push(failure));
  const error = new Error('full');
  for (let i = 0; i < 100; i += 1) onFailure('bind', error);
  assert.deepEqual(told, [{ error, operation: 'bind', untold: 0 }]);
  await clock.advance(10_000);
  onFailure('touch', error);
  onFailure('touch', error);
  assert.deepEqual(told.slice(1), [{ error, operation: 'touch', untold: 99 }]);
});
