import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { SessionKey } from '../../../src/session.ts';
import { createPostgresBatches } from '../../../src/store/postgres/batches.ts';
import type { PostgresRow } from '../../../src/store/postgres/pool.ts';
import type { Question } from '../../../src/store/postgres/statements.ts';
import { createTestClock } from '../../support/clock.ts';
import { keyOf } from '../../support/ids.ts';

const CONNECTIONS = 4;

interface Batch {
  readonly questions: readonly Question[];
  /** Answers with a row a key. */
  answer(): void;
  fail(error: Error): void;
}

/** A database that answers when the test says so. */
function createBatches() {
  const clock = createTestClock();
  const sent: Batch[] = [];
  const batches = createPostgresBatches({
    clock,
    perform: (questions) =>
      new Promise<readonly PostgresRow[]>((resolve, reject) => {
        sent.push({
          questions,
          answer: () => resolve(questions.map(({ key, kind }) => ({ key, kind }))),
          fail: reject,
        });
      }),
  });
  const ask = (question: Question) => batches.ask(question);
  return { clock, sent, ask, batches };
}

function lookup(name: string): Question {
  return { kind: 'lookup', key: keyOf(name) };
}

function touch(name: string): Question {
  return { kind: 'touch', key: keyOf(name), now: 0, ttlMs: 1 };
}

function remove(name: string): Question {
  return { kind: 'delete', key: keyOf(name), now: 0, ifMachine: undefined };
}

/** Keeps all connections busy with something else. */
function fillConnections(ask: (question: Question) => Promise<unknown>): Promise<unknown>[] {
  return Array.from({ length: CONNECTIONS }, (_, index) => ask(lookup(`busy-${index}`)));
}

function namesIn(batch: Batch | undefined): string {
  const names = new Map(['a', 'b', 'c'].map((name): [SessionKey, string] => [keyOf(name), name]));
  return (batch?.questions ?? []).map(({ kind, key }) => `${kind} ${names.get(key) ?? '?'}`).join();
}

test('a lone question goes at once, and what waits for a connection goes together', async () => {
  const { ask, sent } = createBatches();
  const all = fillConnections(ask);
  assert.equal(sent.length, CONNECTIONS);
  all.push(ask(touch('a')), ask(lookup('b')), ask(touch('b')), ask(touch('c')));
  assert.equal(sent.length, CONNECTIONS);
  sent[0]?.answer();
  await nextTurn();
  assert.equal(namesIn(sent[4]), 'touch a,touch c');
  sent[1]?.answer();
  await nextTurn();
  assert.equal(namesIn(sent[5]), 'lookup b');
  for (let index = 0; index < 7; index += 1) {
    sent[index]?.answer();
    await nextTurn();
  }
  assert.equal(namesIn(sent[6]), 'touch b');
  await Promise.all(all);
});

test('a batch has a hundred questions at most', async () => {
  const { ask, sent } = createBatches();
  const all = fillConnections(ask);
  for (let index = 0; index < 250; index += 1) all.push(ask(lookup(`k-${index}`)));
  for (let index = 0; index < 7; index += 1) {
    sent[index]?.answer();
    await nextTurn();
  }
  assert.deepEqual(
    sent.slice(CONNECTIONS).map(({ questions }) => questions.length),
    [100, 100, 50],
  );
  await Promise.all(all);
});

describe('of one key', () => {
  test('a write waits for what was called before it, and lookups only for writes', async () => {
    const { ask, sent } = createBatches();
    const all = [ask(lookup('a')), ask(lookup('a')), ask(touch('a')), ask(remove('a'))];
    all.push(ask(lookup('a')), ask(lookup('a')));
    assert.deepEqual(sent.map(namesIn), ['lookup a', 'lookup a']);
    sent[1]?.answer();
    await nextTurn();
    assert.equal(sent.length, 2);
    sent[0]?.answer();
    await nextTurn();
    assert.deepEqual(sent.slice(2).map(namesIn), ['touch a']);
    sent[2]?.answer();
    await nextTurn();
    assert.deepEqual(sent.slice(3).map(namesIn), ['delete a']);
    sent[3]?.answer();
    await nextTurn();
    assert.deepEqual(sent.slice(4).map(namesIn), ['lookup a', 'lookup a']);
    sent[4]?.answer();
    sent[5]?.answer();
    await Promise.all(all);
  });

  test('a write whose time is over still keeps the next one waiting until it has ended', async () => {
    const { ask, sent, clock } = createBatches();
    const late = assert.rejects(ask(touch('a')), { code: 'passing', message: /1000 ms/ });
    await clock.advance(500);
    const next = ask(remove('a'));
    await clock.advance(500);
    await late;
    assert.equal(sent.length, 1);
    sent[0]?.answer();
    await nextTurn();
    assert.equal(namesIn(sent[1]), 'delete a');
    sent[1]?.answer();
    await next;
  });
});

test('each hears what was said of its key, and all of a batch that it has failed', async () => {
  const { ask, sent } = createBatches();
  const busy = fillConnections(ask);
  const [a, b] = [ask(touch('a')), ask(touch('b'))];
  sent[0]?.answer();
  await nextTurn();
  sent[4]?.answer();
  assert.deepEqual(
    [await a, await b].map((row) => row?.key),
    [keyOf('a'), keyOf('b')],
  );
  const last = ask(lookup('c'));
  const failing = ['a', 'b'].map((name) => assert.rejects(ask(touch(name)), /so it is/));
  sent[1]?.answer();
  await nextTurn();
  assert.equal(namesIn(sent[6]), 'touch a,touch b');
  sent[6]?.fail(new Error('so it is'));
  await Promise.all(failing);
  for (const batch of sent) batch.answer();
  await Promise.all([...busy, last]);
});

test('time runs while a question waits, and then it is not sent any more', async () => {
  const { ask, sent, clock } = createBatches();
  const busy = fillConnections(ask).map((each) => assert.rejects(each, { code: 'passing' }));
  const waiting = assert.rejects(ask(lookup('a')), { code: 'passing', message: /500 ms/ });
  await clock.advance(500);
  await Promise.all([...busy, waiting]);
  for (const batch of [...sent]) batch.answer();
  await nextTurn();
  assert.equal(sent.length, CONNECTIONS);
  assert.equal(clock.pendingCount(), 0);
});

test('beyond five thousand that wait a question is refused at once', async () => {
  const { ask, sent, batches } = createBatches();
  const all = Array.from({ length: 5_000 }, (_, index) => ask(lookup(`k-${index}`)));
  await assert.rejects(ask(lookup('one-more')), { code: 'passing', message: /behind by 5000/ });
  let isSettled = false;
  const settled = batches.idle().then(() => (isSettled = true));
  // More are sent with each answer.
  for (const batch of sent) {
    assert.equal(isSettled, false);
    batch.answer();
    await nextTurn();
  }
  await Promise.all([...all, settled]);
  const again = ask(lookup('one-more'));
  sent.at(-1)?.answer();
  await again;
});
