import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Sweep, type Sweepable } from '../../src/http/sweep.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';

/** Ends itself when `timeoutMs` have passed since it was opened, as connections do. */
class Timed implements Sweepable {
  sweepIndex = -1;
  endedAt: number | undefined;
  lookCount = 0;
  onLook: () => void = () => undefined;
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
    this.lookCount += 1;
    this.onLook();
    if (nowMs - this.#since < this.#timeoutMs) return;
    this.endedAt = this.#clock.monotonicMs();
    this.#sweep.remove(this);
  }
}

describe('a sweep', () => {
  for (const timeoutMs of [1, 250, 1_000, 20_000]) {
    test(`ends what may take ${timeoutMs} ms never early, and no more than half a second late`, async () => {
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

  test('tells the time, a quarter of a second late at most', async () => {
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

  test('tells the time to the first of its items, however long there was none', async () => {
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

  test('looks at every item, whichever of them leaves or comes meanwhile', async () => {
    for (const leaving of [0, 1, 2, 3, 4]) {
      for (const at of [0, 1, 2, 3, 4]) {
        const clock = createTestClock();
        const sweep = new Sweep(clock);
        const items = Array.from({ length: 5 }, () => new Timed(sweep, clock, Infinity));
        const looker = items[at];
        const goes = items[leaving];
        assert.ok(looker && goes);
        let late: Timed | undefined;
        looker.onLook = () => {
          sweep.remove(goes);
          late ??= new Timed(sweep, clock, Infinity);
        };
        await clock.advance(250);
        // From the end on: whoever left was looked at before, or need not be.
        const unseen = items.filter(({ lookCount }, i) => lookCount === 0 && i !== leaving);
        assert.deepEqual(unseen, [], `${leaving} leaves at ${at}`);
        assert.ok(late);
        for (const item of [...items, late]) sweep.remove(item);
        assert.deepEqual([sweep.size, clock.pendingCount()], [0, 0]);
      }
    }
  });

  test('takes an item out once only', () => {
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
