import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Batcher } from '../../src/fleet/announcements.ts';
import { createTokenBucket } from '../../src/fleet/rate-limits.ts';
import { RecentMap } from '../../src/fleet/recent-map.ts';
import { createTestClock } from '../support/clock.ts';

describe('a token bucket', () => {
  it('allows a burst immediately, then its configured rate', async () => {
    const clock = createTestClock();
    const take = createTokenBucket({ ratePerSecond: 10, burst: 3, clock });
    assert.deepEqual([take(), take(), take(), take()], [true, true, true, false]);
    await clock.advance(99);
    assert.equal(take(), false);
    await clock.advance(1);
    assert.deepEqual([take(), take()], [true, false]);
  });

  it('never holds more tokens than its burst, however long it is unused', async () => {
    const clock = createTestClock();
    const take = createTokenBucket({ ratePerSecond: 10, burst: 2, clock });
    await clock.advance(60_000);
    assert.deepEqual([take(), take(), take()], [true, true, false]);
  });
});

describe('a recent map', () => {
  it('drops an entry when it expires', async () => {
    const clock = createTestClock();
    const recent = new RecentMap<string, true>({ ttlMs: 2_000, maxEntries: 10, clock });
    recent.set('a', true);
    await clock.advance(1_999);
    assert.equal(recent.has('a'), true);
    await clock.advance(1);
    assert.equal(recent.has('a'), false);
  });

  it('is bounded and drops the oldest entry first', () => {
    const recent = new RecentMap<string, number>({
      ttlMs: 2_000,
      maxEntries: 2,
      clock: createTestClock(),
    });
    for (const [nth, name] of ['a', 'b', 'a', 'c'].entries()) recent.set(name, nth);
    assert.deepEqual(
      ['a', 'b', 'c'].map((name) => recent.get(name)),
      [2, undefined, 3],
    );
    assert.deepEqual(
      [...recent.entries()],
      [
        ['a', 2],
        ['c', 3],
      ],
    );
  });
});

describe('a batcher', () => {
  /** Each batch waits until it is released. */
  function setUp(maxBatch: number) {
    const batches: string[][] = [];
    const release: (() => void)[] = [];
    const batcher = new Batcher<string, string>({
      maxBatch,
      send: (batch) => {
        batches.push([...batch.values()]);
        return new Promise((resolve) => release.push(resolve));
      },
    });
    const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    const finish = async (): Promise<void> => {
      release.shift()?.();
      await turn();
    };
    return { batches, batcher, turn, finish };
  }

  it('sends everything added in one turn as one batch, one batch at a time', async () => {
    const { batches, batcher, turn, finish } = setUp(10);
    for (const item of ['a', 'b']) batcher.add(item, item);
    await turn();
    for (const item of ['c', 'd']) batcher.add(item, item);
    await turn();
    assert.deepEqual(batches, [['a', 'b']]);
    await finish();
    assert.deepEqual(batches, [
      ['a', 'b'],
      ['c', 'd'],
    ]);
    await finish();
    await batcher.idle();
  });

  it('splits pending items into batches of the maximum size', async () => {
    const { batches, batcher, turn, finish } = setUp(2);
    for (const item of ['a', 'b', 'c']) batcher.add(item, item);
    await turn();
    await finish();
    assert.deepEqual(batches, [['a', 'b'], ['c']]);
  });

  it('does not send an item that was removed', async () => {
    const { batches, batcher, turn } = setUp(10);
    for (const item of ['a', 'b', 'c']) batcher.add(item, item);
    assert.equal(batcher.remove('b'), true);
    assert.equal(batcher.remove('b'), false);
    batcher.removeOldest();
    assert.equal(batcher.size, 1);
    await turn();
    assert.deepEqual(batches, [['c']]);
  });

  it('sends no batch when every item was removed', async () => {
    const { batches, batcher } = setUp(10);
    batcher.add('a', 'a');
    batcher.clear();
    await batcher.idle();
    assert.deepEqual(batches, []);
  });
});
