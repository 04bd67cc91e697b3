import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createFreshness, type Freshness } from '../../../src/store/sqlite/freshness.ts';
import type { Stamp } from '../../../src/store/sqlite/protocol.ts';
import { createTestClock, type TestClock } from '../../support/clock.ts';

const FIRST: Stamp = { threadId: 1, dataVersion: 2 };

interface Start {
  readonly clock: TestClock;
  readonly freshness: Freshness;
  /** Questions not yet answered. */
  readonly questions: PromiseWithResolvers<Stamp | 'busy'>[];
  /** Answers the oldest question. */
  readonly answer: (stamp: Stamp | 'busy') => Promise<void>;
  readonly foreignWriteCount: () => number;
}

function start(): Start {
  const clock = createTestClock();
  const questions: PromiseWithResolvers<Stamp | 'busy'>[] = [];
  let foreignWriteCount = 0;
  const freshness = createFreshness({
    clock,
    askForStamp: () => {
      const question = Promise.withResolvers<Stamp | 'busy'>();
      questions.push(question);
      return question.promise;
    },
    onForeignWrite: () => (foreignWriteCount += 1),
  });
  const answer = async (stamp: Stamp | 'busy'): Promise<void> => {
    questions.shift()?.resolve(stamp);
    await nextTurn();
  };
  return { clock, freshness, questions, answer, foreignWriteCount: () => foreignWriteCount };
}

test('nothing is fresh before the first answer', async () => {
  const { clock, freshness, answer } = start();
  assert.equal(freshness.check(), false);
  await clock.advance(100);
  assert.equal(freshness.check(), false);
  await answer(FIRST);
  assert.equal(freshness.check(), true);
});

test('freshness ends a second after the question, however late the answer came', async () => {
  const { clock, freshness, answer } = start();
  freshness.check();
  await clock.advance(900);
  await answer(FIRST);
  assert.equal(freshness.check(), true);
  await clock.advance(99);
  assert.equal(freshness.check(), true);
  await clock.advance(1);
  assert.equal(freshness.check(), false);
});

test('an answer that took a second makes nothing fresh', async () => {
  const { clock, freshness, answer } = start();
  freshness.check();
  await clock.advance(1_000);
  await answer(FIRST);
  assert.equal(freshness.check(), false);
});

test('there is one question in 250 ms at most, one at once, none unless somebody looks, and no timer', async () => {
  const { clock, freshness, questions, answer } = start();
  assert.equal(questions.length, 0);
  freshness.check();
  await clock.advance(10_000);
  freshness.check();
  assert.equal(questions.length, 1);
  await answer(FIRST);
  freshness.check();
  assert.equal(questions.length, 1);
  await answer(FIRST);
  await clock.advance(249);
  freshness.check();
  assert.equal(questions.length, 0);
  await clock.advance(1);
  freshness.check();
  assert.equal(questions.length, 1);
  assert.equal(clock.pendingCount(), 0);
});

test('the first stamp, another one, and one of another thread tell of a write; an equal one does not', async () => {
  const { clock, freshness, answer, foreignWriteCount } = start();
  const table: [stamp: Stamp, count: number][] = [
    [FIRST, 1],
    [{ ...FIRST }, 1],
    [{ threadId: 1, dataVersion: 3 }, 2],
    [{ threadId: 1, dataVersion: 3 }, 2],
    [{ threadId: 2, dataVersion: 3 }, 3],
    [{ threadId: 2, dataVersion: Number.NaN }, 4],
    [{ threadId: 2, dataVersion: Number.NaN }, 5],
  ];
  for (const [stamp, count] of table) {
    freshness.check();
    await answer(stamp);
    assert.equal(foreignWriteCount(), count);
    await clock.advance(250);
  }
});

test('without an answer nothing becomes fresh, and the next question comes in its time', async () => {
  const { clock, freshness, questions, answer, foreignWriteCount } = start();
  freshness.check();
  questions.shift()?.reject(new Error('the thread died'));
  await clock.advance(250);
  assert.equal(freshness.check(), false);
  await answer('busy');
  await clock.advance(250);
  assert.equal(freshness.check(), false);
  assert.equal(foreignWriteCount(), 0);
  await answer(FIRST);
  assert.equal(freshness.check(), true);
});
