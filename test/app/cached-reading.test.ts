import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CachedReading } from '../../src/app/cached-reading.ts';
import { createTestClock } from '../support/clock.ts';

/** Each reading ends when the test says so. */
function open(intervalMs = 1_000) {
  const clock = createTestClock();
  const readings: PromiseWithResolvers<number>[] = [];
  const cached = new CachedReading({
    ...{ clock, intervalMs },
    read: (signal) => {
      const reading = Promise.withResolvers<number>();
      signal.addEventListener('abort', () => reading.reject(new Error('aborted')));
      readings.push(reading);
      return reading.promise;
    },
  });
  return { clock, readings, cached };
}

test('the first value is waited for, a quarter of a second at most', async () => {
  const { clock, readings, cached } = open();
  const first = cached.latest();
  await clock.advance(250);
  assert.equal(await first, undefined);
  const second = cached.latest();
  readings[0]?.resolve(5);
  assert.equal(await second, 5);
  assert.equal(readings.length, 1, 'many readers share one reading');
});

test('later readers get the last value at once, whatever the reading does', async () => {
  const { clock, readings, cached } = open();
  const first = cached.latest();
  readings[0]?.resolve(5);
  await first;
  assert.equal(await cached.latest(), 5);
  assert.equal(readings.length, 1, 'it is not due yet');
  await clock.advance(1_000);
  assert.equal(await cached.latest(), 5);
  assert.equal(readings.length, 2);
  readings[1]?.reject(new Error('the store fails'));
  await clock.advance(1);
  assert.equal(await cached.latest(), 5);
});

test('a reading that takes long is followed by a pause that is twenty times as long', async () => {
  const { clock, readings, cached } = open();
  const first = cached.latest();
  await clock.advance(1_000);
  readings[0]?.resolve(5);
  await first;
  await clock.advance(19_999);
  await cached.latest();
  assert.equal(readings.length, 1);
  await clock.advance(1);
  await cached.latest();
  assert.equal(readings.length, 2);
  await cached.stop();
});

test('stop ends the reading, and nothing is read later', async () => {
  const { clock, readings, cached } = open();
  const first = cached.latest();
  await cached.stop();
  assert.equal(await first, undefined);
  await clock.advance(60_000);
  assert.equal(await cached.latest(), undefined);
  assert.equal(readings.length, 1);
});
