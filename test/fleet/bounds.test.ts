import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createBatcher } from '../../src/fleet/batcher.ts';
import { createRecentKeys } from '../../src/fleet/recent-keys.ts';
import { createTokenBucket } from '../../src/fleet/token-bucket.ts';
import { createTestClock } from '../support/clock.ts';
import { keyOf } from '../support/ids.ts';

describe('a token bucket', () => {
  it('gives its burst at once, and from then on its rate', async () => {
    const clock = createTestClock();
    const take = createTokenBucket({ ratePerSecond: 10, burst: 3, clock });
    assert.deepEqual([take(), take(), take(), take()], [true, true, true, false]);
    await clock.advance(99);
    assert.equal(take(), false);
    await clock.advance(1);
    assert.deepEqual([take(), take()], [true, false]);
  });

  it('holds no more than its burst, however long it rests', async () => {
    const clock = createTestClock();
    const take = createTokenBucket({ ratePerSecond: 10, burst: 2, clock });
    await clock.advance(60_000);
    assert.deepEqual([take(), take(), take()], [true, true, false]);
  });
});

describe('recent keys', () => {
  it('are forgotten when their time is up', async () => {
    const clock = createTestClock();
    const recent = createRecentKeys({ ttlMs: 2_000, maxKeys: 10, clock });
    recent.add(keyOf('a'));
    await clock.advance(1_999);
    assert.equal(recent.has(keyOf('a')), true);
    await clock.advance(1);
    assert.equal(recent.has(keyOf('a')), false);
  });

  it('are bounded, the oldest leaving first', () => {
    const recent = createRecentKeys({ ttlMs: 2_000, maxKeys: 2, clock: createTestClock() });
    for (const id of ['a', 'b', 'a', 'c']) recent.add(keyOf(id));
    assert.deepEqual(
      ['a', 'b', 'c'].map((id) => recent.has(keyOf(id))),
      [true, false, true],
    );
  });
});

describe('a batcher', () => {
  /** Each batch waits until it is let go. */
  function setUp(maxBatch: number) {
    const batches: string[][] = [];
    const letGo: (() => void)[] = [];
    const batcher = createBatcher<string, string>({
      maxBatch,
      send: (batch) => {
        batches.push([...batch.values()]);
        return new Promise((resolve) => letGo.push(resolve));
      },
    });
    const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    const finish = async (): Promise<void> => {
      letGo.shift()?.();
      await turn();
    };
    return { batches, batcher, turn, finish };
  }

  it('sends what was added in one turn at once, and one batch at a time', async () => {
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

  it('cuts what waits into batches of the bound', async () => {
    const { batches, batcher, turn, finish } = setUp(2);
    for (const item of ['a', 'b', 'c']) batcher.add(item, item);
    await turn();
    await finish();
    assert.deepEqual(batches, [['a', 'b'], ['c']]);
  });

  it('sends nothing that was taken back', async () => {
    const { batches, batcher, turn } = setUp(10);
    for (const item of ['a', 'b', 'c']) batcher.add(item, item);
    assert.equal(batcher.remove('b'), true);
    assert.equal(batcher.remove('b'), false);
    batcher.removeOldest();
    assert.equal(batcher.size(), 1);
    await turn();
    assert.deepEqual(batches, [['c']]);
  });

  it('sends nothing when everything was taken back', async () => {
    const { batches, batcher } = setUp(10);
    batcher.add('a', 'a');
    batcher.clear();
    await batcher.idle();
    assert.deepEqual(batches, []);
  });
});
