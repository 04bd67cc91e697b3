import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  createFairShare,
  type FairShareOptions,
  type Source,
} from '../../src/fleet/rate-limits.ts';
import { createTestClock } from '../support/clock.ts';
import { heldAfter } from '../support/held-bytes.ts';

const OPTIONS = {
  ratePerSecond: 10,
  burst: 20,
  share: { ratePerSecond: 1, burst: 2 },
  reserve: 5,
} as const;

function share(options: Partial<FairShareOptions> = {}) {
  const clock = createTestClock();
  const take = createFairShare({ ...OPTIONS, clock, ...options });
  /** How many of these requests it admits. */
  const taken = (count: number, source: Source | undefined): number =>
    Array.from({ length: count }, () => take(source)).filter(Boolean).length;
  return { clock, taken };
}

describe('of the tokens shared by many sources', () => {
  test('one source gets all but the reserve', () => {
    const { taken } = share();
    // Two of its own share, plus what exceeds the reserve.
    assert.equal(taken(100, 'flood'), 15);
  });

  test('the reserve is for sources within their share, each for its own', () => {
    const { taken } = share();
    taken(100, 'flood');
    assert.deepEqual([taken(3, 'a'), taken(3, 'b')], [2, 2]);
    assert.equal(taken(1, 'flood'), 0);
    assert.equal(taken(3, 'c'), 1, 'the last token');
  });

  test('a request without a source uses the reserve too', () => {
    const { taken } = share();
    taken(100, 'flood');
    assert.equal(taken(100, undefined), 5);
  });

  test('shares and the total refill over time', async () => {
    const { clock, taken } = share();
    taken(100, 'flood');
    assert.deepEqual([taken(3, 'a'), taken(100, undefined)], [2, 3]);
    await clock.advance(1_000);
    assert.equal(taken(3, 'a'), 3, 'one of its share, two that exceed the reserve');
    await clock.advance(10_000);
    assert.equal(taken(100, 'flood'), 15);
  });

  test('sources are remembered up to a limit: the least recently seen one starts over', () => {
    const { taken } = share({ maxSources: 2, reserve: 20 });
    assert.equal(taken(3, 'a'), 2);
    assert.deepEqual([taken(1, 'b'), taken(1, 'a')], [1, 0]);
    assert.equal(taken(1, 'c'), 1, 'b is the least recently seen');
    assert.equal(taken(1, 'a'), 0, 'a is remembered');
    assert.equal(taken(2, 'b'), 2, 'b is not');
  });

  test('only the addresses of the sources stay in memory', () => {
    const take = createFairShare({ ...OPTIONS, clock: createTestClock() });
    const heldBytes = heldAfter(() => {
      for (let index = 0; index < 1_000; index += 1) {
        const address = `203.0.113.${100_000 + index}`;
        const head = Buffer.from(address.padEnd(20_000, 'x')).toString('latin1');
        take(head.slice(0, address.length));
      }
    });
    assert.ok(heldBytes < 2_000_000, `${heldBytes} bytes`);
  });
});
