import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createFreshness, type Freshness } from '../../../src/store/sqlite/reader.ts';
import type { Stamp } from '../../../src/store/sqlite/protocol.ts';
import { createTestClock, type TestClock } from '../../support/clock.ts';

const FIRST: Stamp = { threadId: 1, dataVersion: 2 };

interface Start {
  readonly clock: TestClock;
  readonly freshness: Freshness;
  /** Queries without a response yet. */
  readonly questions: PromiseWithResolvers<Stamp | 'busy'>[];
  /** Responds to the oldest query. */
  readonly respond: (stamp: Stamp | 'busy') => Promise<void>;
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
  const respond = async (stamp: Stamp | 'busy'): Promise<void> => {
    questions.shift()?.resolve(stamp);
    await nextTurn();
  };
  return {
    clock,
    freshness,
    questions,
    respond,
    foreignWriteCount: () => foreignWriteCount,
  };
}

test('nothing is fresh before the first response', async () => {
  const { clock, freshness, respond } = start();
  assert.equal(freshness.check(), false);
  await clock.advance(100);
  assert.equal(freshness.check(), false);
  await respond(FIRST);
  assert.equal(freshness.check(), true);
});

test('freshness ends a second after the query, however late the response arrived', async () => {
  const { clock, freshness, respond } = start();
  freshness.check();
  await clock.advance(900);
  await respond(FIRST);
  assert.equal(freshness.check(), true);
  await clock.advance(99);
  assert.equal(freshness.check(), true);
  await clock.advance(1);
  assert.equal(freshness.check(), false);
});

test('a response that took a second makes nothing fresh', async () => {
  const { clock, freshness, respond } = start();
  freshness.check();
  await clock.advance(1_000);
  await respond(FIRST);
  assert.equal(freshness.check(), false);
});

test('sends one query per 250 ms at most, one at a time, none without a lookup, and starts no timer', async () => {
  const { clock, freshness, questions, respond } = start();
  assert.equal(questions.length, 0);
  freshness.check();
  await clock.advance(10_000);
  freshness.check();
  assert.equal(questions.length, 1);
  await respond(FIRST);
  freshness.check();
  assert.equal(questions.length, 1);
  await respond(FIRST);
  await clock.advance(249);
  freshness.check();
  assert.equal(questions.length, 0);
  await clock.advance(1);
  freshness.check();
  assert.equal(questions.length, 1);
  assert.equal(clock.pendingCount(), 0);
});

test('the first stamp, a different one, and one of another thread indicate a write; an equal one does not', async () => {
  const { clock, freshness, respond, foreignWriteCount } = start();
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
    await respond(stamp);
    assert.equal(foreignWriteCount(), count);
    await clock.advance(250);
  }
});

test('without a response nothing becomes fresh, and the next query is sent on schedule', async () => {
  const { clock, freshness, questions, respond, foreignWriteCount } = start();
  freshness.check();
  questions.shift()?.reject(new Error('the thread died'));
  await clock.advance(250);
  assert.equal(freshness.check(), false);
  await respond('busy');
  await clock.advance(250);
  assert.equal(freshness.check(), false);
  assert.equal(foreignWriteCount(), 0);
  await respond(FIRST);
  assert.equal(freshness.check(), true);
});
