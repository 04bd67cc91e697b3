import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { SessionKey } from '../../../src/session.ts';
import { createWritesInFlight } from '../../../src/store/in-flight.ts';
import { createPostgresBatches } from '../../../src/store/postgres/batches.ts';
import type { PostgresRow } from '../../../src/store/postgres/pool.ts';
import type { Question } from '../../../src/store/postgres/statements.ts';
import { createTestClock } from '../../support/clock.ts';
import { keyOf } from '../../support/ids.ts';

const CONNECTIONS = 4;

interface Batch {
  readonly questions: readonly Question[];
  /** Returns one row per key. */
  respond(): void;
  fail(error: Error): void;
}

/** A database that responds when the test resolves it. */
function createBatches() {
  const clock = createTestClock();
  const sent: Batch[] = [];
  const inFlight = createWritesInFlight<undefined>();
  const batches = createPostgresBatches({
    clock,
    inFlight,
    perform: (questions) =>
      new Promise<readonly PostgresRow[]>((resolve, reject) => {
        sent.push({
          questions,
          respond: () => resolve(questions.map(({ key, kind }) => ({ key, kind }))),
          fail: reject,
        });
      }),
  });
  const query = (question: Question) => batches.ask(question);
  return { clock, sent, query, inFlight };
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

/** Keeps all connections busy with another statement. */
function fillConnections(query: (question: Question) => Promise<unknown>): Promise<unknown>[] {
  return Array.from({ length: CONNECTIONS }, (_, index) => query(lookup(`busy-${index}`)));
}

function namesIn(batch: Batch | undefined): string {
  const names = new Map(['a', 'b', 'c'].map((name): [SessionKey, string] => [keyOf(name), name]));
  return (batch?.questions ?? []).map(({ kind, key }) => `${kind} ${names.get(key) ?? '?'}`).join();
}

test('a single query is sent immediately, and queries that wait for a connection are sent together', async () => {
  const { query, sent } = createBatches();
  const all = fillConnections(query);
  assert.equal(sent.length, CONNECTIONS);
  all.push(query(touch('a')), query(lookup('b')), query(touch('b')), query(touch('c')));
  assert.equal(sent.length, CONNECTIONS);
  sent[0]?.respond();
  await nextTurn();
  assert.equal(namesIn(sent[4]), 'touch a,touch c');
  sent[1]?.respond();
  await nextTurn();
  assert.equal(namesIn(sent[5]), 'lookup b');
  for (let index = 0; index < 7; index += 1) {
    sent[index]?.respond();
    await nextTurn();
  }
  assert.equal(namesIn(sent[6]), 'touch b');
  await Promise.all(all);
});

test('a batch has a hundred queries at most', async () => {
  const { query, sent } = createBatches();
  const all = fillConnections(query);
  for (let index = 0; index < 250; index += 1) all.push(query(lookup(`k-${index}`)));
  for (let index = 0; index < 7; index += 1) {
    sent[index]?.respond();
    await nextTurn();
  }
  assert.deepEqual(
    sent.slice(CONNECTIONS).map(({ questions }) => questions.length),
    [100, 100, 50],
  );
  await Promise.all(all);
});

describe('of one key', () => {
  test('a write waits for earlier operations, and lookups only for writes', async () => {
    const { query, sent } = createBatches();
    const all = [query(lookup('a')), query(lookup('a')), query(touch('a')), query(remove('a'))];
    all.push(query(lookup('a')), query(lookup('a')));
    assert.deepEqual(sent.map(namesIn), ['lookup a', 'lookup a']);
    sent[1]?.respond();
    await nextTurn();
    assert.equal(sent.length, 2);
    sent[0]?.respond();
    await nextTurn();
    assert.deepEqual(sent.slice(2).map(namesIn), ['touch a']);
    sent[2]?.respond();
    await nextTurn();
    assert.deepEqual(sent.slice(3).map(namesIn), ['delete a']);
    sent[3]?.respond();
    await nextTurn();
    assert.deepEqual(sent.slice(4).map(namesIn), ['lookup a', 'lookup a']);
    sent[4]?.respond();
    sent[5]?.respond();
    await Promise.all(all);
  });

  test('a write that timed out still delays the next one until it has ended', async () => {
    const { query, sent, clock } = createBatches();
    const late = assert.rejects(query(touch('a')), { code: 'passing', message: /1000 ms/ });
    await clock.advance(500);
    const next = query(remove('a'));
    await clock.advance(500);
    await late;
    assert.equal(sent.length, 1);
    sent[0]?.respond();
    await nextTurn();
    assert.equal(namesIn(sent[1]), 'delete a');
    sent[1]?.respond();
    await next;
  });
});

test('each caller receives the row of its key, and all of a batch its failure', async () => {
  const { query, sent } = createBatches();
  const busy = fillConnections(query);
  const [a, b] = [query(touch('a')), query(touch('b'))];
  sent[0]?.respond();
  await nextTurn();
  sent[4]?.respond();
  assert.deepEqual(
    [await a, await b].map((row) => row?.key),
    [keyOf('a'), keyOf('b')],
  );
  const last = query(lookup('c'));
  const failing = ['a', 'b'].map((name) => assert.rejects(query(touch(name)), /so it is/));
  sent[1]?.respond();
  await nextTurn();
  assert.equal(namesIn(sent[6]), 'touch a,touch b');
  sent[6]?.fail(new Error('so it is'));
  await Promise.all(failing);
  for (const batch of sent) batch.respond();
  await Promise.all([...busy, last]);
});

test('the timeout runs while a query waits, and then the query is not sent', async () => {
  const { query, sent, clock } = createBatches();
  const busy = fillConnections(query).map((each) => assert.rejects(each, { code: 'passing' }));
  const waiting = assert.rejects(query(lookup('a')), { code: 'passing', message: /500 ms/ });
  await clock.advance(500);
  await Promise.all([...busy, waiting]);
  for (const batch of [...sent]) batch.respond();
  await nextTurn();
  assert.equal(sent.length, CONNECTIONS);
  assert.equal(clock.pendingCount(), 0);
});

test('a query beyond five thousand waiting ones is rejected immediately', async () => {
  const { query, sent, inFlight } = createBatches();
  const all = Array.from({ length: 5_000 }, (_, index) => query(lookup(`k-${index}`)));
  await assert.rejects(query(lookup('one-more')), { code: 'passing', message: /behind by 5000/ });
  let isSettled = false;
  const settled = inFlight.ended().then(() => (isSettled = true));
  // More are sent with each response.
  for (const batch of sent) {
    assert.equal(isSettled, false);
    batch.respond();
    await nextTurn();
  }
  await Promise.all([...all, settled]);
  const again = query(lookup('one-more'));
  sent.at(-1)?.respond();
  await again;
});
