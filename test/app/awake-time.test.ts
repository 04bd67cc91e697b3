/** The time of a suspend, by the clocks of this Machine. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AwakeTime } from '../../src/app/awake-time.ts';
import type { Clock } from '../../src/clock.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';

interface Scene {
  readonly clock: TestClock;
  readonly time: AwakeTime;
  /** Sets the wall clock, or both clocks, forward. */
  readonly jump: (ms: number, both?: 'both') => void;
}

function start(): Scene {
  const clock = createTestClock();
  let [wallMs, monotonicMs] = [0, 0];
  const jumping: Clock = {
    ...clock,
    now: () => clock.now() + wallMs,
    monotonicMs: () => clock.monotonicMs() + monotonicMs,
  };
  const jump: Scene['jump'] = (ms, both) => {
    wallMs += ms;
    if (both) monotonicMs += ms;
  };
  return { clock, time: new AwakeTime(jumping), jump };
}

describe('the time that a Machine was suspended', () => {
  test('is 0 while its clocks agree', async () => {
    const { clock, time } = start();
    await clock.advance(100_000);
    assert.deepEqual([time.sleptMs(), time.hasJumped], [0, false]);
    time.stop();
    assert.equal(clock.pendingCount(), 0);
  });

  test('is by how much the wall clock jumps, however late', async () => {
    const { clock, time, jump } = start();
    await clock.advance(7_000);
    jump(50_000);
    await clock.advance(9_000);
    assert.deepEqual([time.sleptMs(), time.hasJumped], [50_000, true]);
    time.stop();
  });

  test('is the time without a tick where the process was stopped', async () => {
    const { clock, time, jump } = start();
    await clock.advance(7_000);
    jump(50_000, 'both');
    await clock.advance(9_000);
    assert.deepEqual([time.sleptMs(), time.hasJumped], [50_000, true]);
    time.stop();
  });

  test('ends the wait for it', async () => {
    const { clock, time, jump } = start();
    const waited = time.untilJump(60_000, new AbortController().signal);
    jump(50_000);
    await clock.advance(1_000);
    await waited;
    time.stop();
    assert.equal(clock.pendingCount(), 0);
  });
});
