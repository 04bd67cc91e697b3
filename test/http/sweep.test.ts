import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Sweep, type Sweepable } from '../../src/http/sweep.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';

/** An item that ends itself `timeoutMs` after it was opened, as connections do. */
class Timed implements Sweepable {
  sweepIndex = -1;
  endedAt: number | undefined;
  checkCount = 0;
  onCheck: () => void = () => undefined;
  readonly #since: number;
  readonly #sweep: Sweep;
  readonly #clock: TestClock;
  readonly #timeoutMs: number;

  constructor(sweep: Sweep, clock: TestClock, timeoutMs: number) {
    sweep.add(this);
    this.#since = sweep.nowMs;
    this.#sweep = sweep;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  checkTimeouts(nowMs: number): void {
    this.checkCount += 1;
    this.onCheck();
    if (nowMs - this.#since < this.#timeoutMs) return;
    this.endedAt = this.#clock.monotonicMs();
    this.#sweep.remove(this);
  }
}

describe('a sweep', () => {
  for (const timeoutMs of [1, 250, 1_000, 20_000]) {
    test(`ends an item with a timeout of ${timeoutMs} ms never early, and at most half a second late`, async () => {
      for (const startMs of [0, 1, 100, 249, 250, 251, 499]) {
        const clock = createTestClock();
        const sweep = new Sweep(clock);
        const other = new Timed(sweep, clock, Infinity);
        await clock.advance(startMs);
        const timed = new Timed(sweep, clock, timeoutMs);
        await clock.advance(timeoutMs + 500);
        const tookMs = (timed.endedAt ?? Infinity) - startMs;
        assert.ok(tookMs >= timeoutMs && tookMs <= timeoutMs + 500, `${tookMs} from ${startMs}`);
        sweep.remove(other);
      }
    });
  }

  test('has a clock that is at most a quarter of a second late', async () => {
    const clock = createTestClock();
    const sweep = new Sweep(clock);
    const timed = new Timed(sweep, clock, Infinity);
    for (let i = 0; i < 20; i += 1) {
      await clock.advance(99);
      const lateMs = clock.monotonicMs() - sweep.nowMs;
      assert.ok(lateMs >= 0 && lateMs < 250, `${lateMs}`);
    }
    sweep.remove(timed);
  });

  test('has the current time for the first item after an idle period', async () => {
    const clock = createTestClock();
    const sweep = new Sweep(clock);
    await clock.advance(60_000);
    const timed = new Timed(sweep, clock, 1_000);
    await clock.advance(999);
    assert.equal(timed.endedAt, undefined);
    sweep.remove(timed);
  });

  test('has one timer, which ends with the last item', () => {
    const clock = createTestClock();
    const sweep = new Sweep(clock);
    assert.equal(clock.pendingCount(), 0);
    const items = [1, 2, 3].map((ms) => new Timed(sweep, clock, ms));
    assert.deepEqual([sweep.size, clock.pendingCount()], [3, 1]);
    for (const item of items) sweep.remove(item);
    assert.deepEqual([sweep.size, clock.pendingCount()], [0, 0]);
    const again = new Timed(sweep, clock, 1);
    assert.deepEqual([sweep.size, clock.pendingCount()], [1, 1]);
    sweep.remove(again);
  });

  test('checks every item, even if items are added or removed meanwhile', async () => {
    for (const leaving of [0, 1, 2, 3, 4]) {
      for (const at of [0, 1, 2, 3, 4]) {
        const clock = createTestClock();
        const sweep = new Sweep(clock);
        const items = Array.from({ length: 5 }, () => new Timed(sweep, clock, Infinity));
        const checker = items[at];
        const goes = items[leaving];
        assert.ok(checker && goes);
        let late: Timed | undefined;
        checker.onCheck = () => {
          sweep.remove(goes);
          late ??= new Timed(sweep, clock, Infinity);
        };
        await clock.advance(250);
        // The removed item may be unchecked.
        const unseen = items.filter(({ checkCount }, i) => checkCount === 0 && i !== leaving);
        assert.deepEqual(unseen, [], `${leaving} leaves at ${at}`);
        assert.ok(late);
        for (const item of [...items, late]) sweep.remove(item);
        assert.deepEqual([sweep.size, clock.pendingCount()], [0, 0]);
      }
    }
  });

  test('removes an item only once', () => {
    const clock = createTestClock();
    const sweep = new Sweep(clock);
    const [one, other] = [new Timed(sweep, clock, 1), new Timed(sweep, clock, 1)];
    sweep.remove(one);
    sweep.remove(one);
    assert.equal(sweep.size, 1);
    sweep.remove(other);
    assert.equal(sweep.size, 0);
  });
});
