import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  backoffDelayMs,
  createCircuitBreaker,
  retry,
  type CircuitBreaker,
} from '../src/resilience.ts';
import { createTestClock, type TestClock } from './support/clock.ts';

const BUSY = new Error('busy');
const BROKEN = new Error('broken');

/** Fails with the errors in turn, then succeeds with the number of tries. */
function failing(...errors: Error[]): { operation: () => Promise<number>; tries: () => number } {
  let tries = 0;
  const operation = (): Promise<number> => {
    tries += 1;
    const error = errors[tries - 1];
    return error ? Promise.reject(error) : Promise.resolve(tries);
  };
  return { operation, tries: () => tries };
}

function policy(clock: TestClock, retryCount = 3, random = (): number => 0.5) {
  return {
    retryCount,
    delayMs: 100,
    isRetryable: (error: unknown) => error === BUSY,
    clock,
    random,
  };
}

describe('retry', () => {
  it('retries after a pause that doubles, and returns the result of the success', async () => {
    const clock = createTestClock();
    const { operation, tries } = failing(BUSY, BUSY);
    const result = retry(operation, policy(clock));
    await clock.advance(49);
    assert.equal(tries(), 1);
    await clock.advance(1);
    assert.equal(tries(), 2);
    await clock.advance(99);
    assert.equal(tries(), 2);
    await clock.advance(1);
    assert.equal(await result, 3);
  });

  it('stops retrying with the last error once the retries are used up', async () => {
    const clock = createTestClock();
    const { operation, tries } = failing(BUSY, BUSY, BUSY);
    const result = assert.rejects(retry(operation, policy(clock, 2)), BUSY);
    await clock.advance(1_000);
    await result;
    assert.equal(tries(), 3);
  });

  it('does not retry a permanent failure', async () => {
    const { operation, tries } = failing(BROKEN);
    await assert.rejects(retry(operation, policy(createTestClock())), BROKEN);
    assert.equal(tries(), 1);
  });

  it('tries once when no retries are allowed', async () => {
    const { operation, tries } = failing(BUSY);
    await assert.rejects(retry(operation, policy(createTestClock(), 0)), BUSY);
    assert.equal(tries(), 1);
  });

  it('ends its pause and stops retrying once it is aborted', async () => {
    const clock = createTestClock();
    const abort = new AbortController();
    const { operation, tries } = failing(BUSY, BUSY);
    const result = assert.rejects(
      retry(operation, { ...policy(clock), signal: abort.signal }),
      BUSY,
    );
    await clock.advance(10);
    abort.abort();
    await result;
    assert.equal(tries(), 1);
    assert.equal(clock.pendingCount(), 0);
  });

  it('starts no pause that exceeds its time limit, nor a try after a pause that did', async () => {
    const clock = createTestClock();
    const { operation, tries } = failing(BUSY, BUSY, BUSY, BUSY);
    const inTime = retry(operation, { ...policy(clock), untilMs: 150 });
    const result = assert.rejects(inTime, BUSY);
    await clock.advance(50);
    await result;
    assert.equal(tries(), 2);
    assert.equal(clock.pendingCount(), 0);
    const late = { ...clock, sleep: () => clock.advance(200) };
    const overslept = retry(operation, { ...policy(late), untilMs: clock.monotonicMs() + 150 });
    await assert.rejects(overslept, BUSY);
    assert.equal(tries(), 3);
  });

  it('turns a synchronous throw into a rejection', async () => {
    const result = retry(() => {
      throw BROKEN;
    }, policy(createTestClock()));
    await assert.rejects(result, BROKEN);
  });
});

describe('backoffDelayMs', () => {
  const rows: [attempt: number, random: number, expectedMs: number][] = [
    [0, 0, 0],
    [0, 0.999, 99.9],
    [1, 0.5, 100],
    [3, 0.5, 400],
    [4, 0.5, 500],
    [2_000, 0.5, 500],
  ];
  for (const [attempt, random, expectedMs] of rows) {
    it(`pauses ${expectedMs} ms after attempt ${attempt} with the random value ${random}`, () => {
      const backoff = { delayMs: 100, maxDelayMs: 1_000 };
      assert.equal(
        Math.round(backoffDelayMs(attempt, backoff, () => random) * 10) / 10,
        expectedMs,
      );
    });
  }
});

describe('a circuit breaker', () => {
  function breakerAt(clock: TestClock, random = 1): CircuitBreaker {
    const options = { failureThreshold: 3, openMs: 1_000, maxOpenMs: 3_000 };
    return createCircuitBreaker({ ...options, clock, random: () => random });
  }

  function fail(breaker: CircuitBreaker, times: number): void {
    for (let i = 0; i < times; i += 1) breaker.begin()?.failed();
  }

  it('opens after a number of consecutive failures and rejects all attempts', () => {
    const breaker = breakerAt(createTestClock());
    fail(breaker, 2);
    assert.deepEqual(breaker.state(), { kind: 'closed', consecutiveFailures: 2 });
    fail(breaker, 1);
    assert.equal(breaker.state().kind, 'open');
    assert.equal(breaker.mayBegin(), false);
    assert.equal(breaker.begin(), undefined);
  });

  it('counts only failures without a success in between', () => {
    const breaker = breakerAt(createTestClock());
    fail(breaker, 2);
    breaker.begin()?.succeeded();
    fail(breaker, 2);
    assert.equal(breaker.state().kind, 'closed');
  });

  it('admits one probe at its timeout, and closes if that succeeds', async () => {
    const clock = createTestClock();
    const breaker = breakerAt(clock);
    fail(breaker, 3);
    await clock.advance(999);
    assert.equal(breaker.begin(), undefined);
    await clock.advance(1);
    const probe = breaker.begin();
    assert.ok(probe);
    assert.equal(breaker.begin(), undefined);
    probe.succeeded();
    assert.deepEqual(breaker.state(), { kind: 'closed', consecutiveFailures: 0 });
  });

  it('stays open twice as long with each probe that fails, up to a limit', async () => {
    const clock = createTestClock();
    const breaker = breakerAt(clock);
    fail(breaker, 3);
    for (const openMs of [1_000, 2_000, 3_000, 3_000]) {
      await clock.advance(openMs - 1);
      assert.equal(breaker.mayBegin(), false);
      await clock.advance(1);
      fail(breaker, 1);
    }
  });

  it('opens for a random time between half and all of its timeout', async () => {
    const clock = createTestClock();
    const breaker = breakerAt(clock, 0);
    fail(breaker, 3);
    await clock.advance(500);
    assert.equal(breaker.mayBegin(), true);
  });

  it('admits the next probe immediately when one was abandoned', async () => {
    const clock = createTestClock();
    const breaker = breakerAt(clock);
    fail(breaker, 3);
    await clock.advance(1_000);
    breaker.begin()?.abandoned();
    assert.ok(breaker.begin());
  });

  it('ignores attempts that began before it opened', async () => {
    const clock = createTestClock();
    const breaker = breakerAt(clock);
    const [early, late] = [breaker.begin(), breaker.begin()];
    fail(breaker, 3);
    early?.succeeded();
    assert.equal(breaker.state().kind, 'open');
    await clock.advance(1_000);
    assert.ok(breaker.begin());
    late?.failed();
    assert.equal(breaker.state().kind, 'half-open');
  });

  it('counts each attempt once', () => {
    const breaker = breakerAt(createTestClock());
    const attempt = breaker.begin();
    for (let i = 0; i < 3; i += 1) attempt?.failed();
    assert.deepEqual(breaker.state(), { kind: 'closed', consecutiveFailures: 1 });
  });
});
