import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cpuRatiosTo, ratioOf, ratiosTo, type Measurement } from './result.ts';

const fast: Measurement = { candidate: 'fast', value: 20, turns: [40, 20, 10], cpuMicros: 5 };
const slow: Measurement = { candidate: 'slow', value: 10, turns: [10, 10, 10], cpuMicros: 20 };

test('the ratio of candidates that took turns is the median of the ratios of their turns', () => {
  const slowed: Measurement = { ...slow, value: 5, turns: [20, 5, 5] };
  assert.equal(ratioOf([fast, slowed], 'fast', 'slow').value, 2);
});

test('the ratio of candidates that took no turns is that of their values', () => {
  const once = ({ candidate, value }: Measurement): Measurement => {
    return { candidate, value, cpuMicros: undefined };
  };
  assert.equal(ratioOf([once(fast), once(slow)], 'fast', 'slow').value, 2);
});

test('a ratio by CPU time is the ratio of work per core', () => {
  assert.equal(ratioOf([fast, slow], 'fast', 'slow').byCpu, 4);
});

test('a ratio of CPU times is the ratio of CPU use', () => {
  const [ratio] = cpuRatiosTo([fast, slow], 'slow', { fast: { atMost: 3 } });
  assert.equal(ratio?.value, 4);
});

test('ratios to candidates that were not measured are left out', () => {
  const ratios = ratiosTo([fast, slow], 'fast', { nginx: { atLeast: 1 }, slow: undefined });
  assert.deepEqual(
    ratios.map(({ name }) => name),
    ['fast / slow'],
  );
});
