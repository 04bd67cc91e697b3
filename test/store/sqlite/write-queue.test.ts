import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SessionKey } from '../../../src/session.ts';
import type { Outcome, Write } from '../../../src/store/rules.ts';
import type {
  RequestKind,
  WriterResponses,
  WriteResult,
  WriterRequest,
} from '../../../src/store/sqlite/protocol.ts';
import { StoreError } from '../../../src/store/store.ts';
import {
  createWriteQueue,
  type Ask,
  type WriteQueue,
} from '../../../src/store/sqlite/write-queue.ts';
import { keyOf } from '../../support/ids.ts';

type Answer = WriterResponses[RequestKind] | 'busy' | 'dead';

/** A writer that answers when the test says so. */
interface ScriptedWriter {
  readonly requests: WriterRequest[];
  /** Answers the oldest request that has no answer yet. */
  answer(answer: Answer | StoreError): Promise<void>;
}

interface Story {
  readonly queue: WriteQueue;
  readonly writer: ScriptedWriter;
  readonly evicted: SessionKey[];
  readonly settled: string[];
}

function tell(pauseCount = 0): Story {
  const requests: WriterRequest[] = [];
  const waiting: PromiseWithResolvers<Answer>[] = [];
  const evicted: SessionKey[] = [];
  const settled: string[] = [];
  const ask = (request: WriterRequest): Promise<Answer> => {
    requests.push(request);
    const waits = Promise.withResolvers<Answer>();
    waiting.push(waits);
    return waits.promise;
  };
  const queue = createWriteQueue({
    ask: ask as Ask,
    waitToRetry: (pause) => Promise.resolve(pause < pauseCount),
    onSettled: (write, outcome) => settled.push(`${write.key} ${outcome ? 'done' : 'failed'}`),
    onEvicted: (keys) => evicted.push(...keys),
    maxAgeMs: 0,
  });
  const answer = async (given: Answer | StoreError): Promise<void> => {
    const waits = waiting.shift();
    assert.ok(waits, 'nothing was asked');
    if (given instanceof StoreError) waits.reject(given);
    else waits.resolve(given);
    await new Promise(setImmediate);
  };
  return { queue, writer: { requests, answer }, evicted, settled };
}

const OUTCOME: Outcome = { after: undefined, hasTakenEffect: true };

function touch(name: string): Write {
  return { kind: 'touch', key: keyOf(name), now: 0, ttlMs: 1 };
}

function done(count: number): WriterResponses['write'] {
  const results = Array.from({ length: count }, (): WriteResult => ({
    kind: 'done',
    outcome: OUTCOME,
  }));
  return { results, evicted: [] };
}

function keysIn(request: WriterRequest | undefined): SessionKey[] {
  assert.equal(request?.kind, 'write');
  return request.writes.map(({ key }) => key);
}

test('the first write goes at once, and what comes meanwhile goes together', async () => {
  const { queue, writer } = tell();
  const writes = ['a', 'b', 'c'].map((name) => queue.write(touch(name)));
  assert.deepEqual(keysIn(writer.requests[0]), [keyOf('a')]);
  assert.equal(writer.requests.length, 1);
  await writer.answer(done(1));
  assert.deepEqual(keysIn(writer.requests[1]), [keyOf('b'), keyOf('c')]);
  await writer.answer(done(2));
  assert.deepEqual(await Promise.all(writes), [OUTCOME, OUTCOME, OUTCOME]);
  void queue.write(touch('d'));
  assert.deepEqual(keysIn(writer.requests[2]), [keyOf('d')]);
});

test('two writes of one key never go together', async () => {
  const { queue, writer } = tell();
  for (const name of ['first', 'a', 'b', 'a', 'c']) void queue.write(touch(name));
  await writer.answer(done(1));
  assert.deepEqual(keysIn(writer.requests[1]), [keyOf('a'), keyOf('b')]);
  await writer.answer(done(2));
  assert.deepEqual(keysIn(writer.requests[2]), [keyOf('a'), keyOf('c')]);
});

test('what is no write goes alone, in its turn', async () => {
  const { queue, writer } = tell();
  void queue.write(touch('a'));
  void queue.write(touch('b'));
  const counted = queue.ask({ kind: 'count', now: 0 });
  void queue.write(touch('c'));
  await writer.answer(done(1));
  await writer.answer(done(1));
  assert.equal(writer.requests[2]?.kind, 'count');
  const count = { total: 1, expired: 0, sizeBytes: 0 };
  await writer.answer(count);
  assert.deepEqual(await counted, count);
  assert.deepEqual(keysIn(writer.requests[3]), [keyOf('c')]);
});

test('a busy database is asked again as often as there are pauses', async () => {
  const { queue, writer } = tell(2);
  const write = queue.write(touch('a'));
  await writer.answer('busy');
  await writer.answer('busy');
  await writer.answer(done(1));
  assert.deepEqual(await write, OUTCOME);
  const given = assert.rejects(queue.write(touch('b')), { code: 'passing' });
  for (let attempt = 0; attempt < 3; attempt += 1) await writer.answer('busy');
  await given;
  assert.equal(writer.requests.length, 6);
});

test('a failed batch fails each of its writes and none after it', async () => {
  const { queue, writer, settled } = tell();
  const failed = assert.rejects(queue.write(touch('a')), { code: 'full', message: 'no room' });
  const next = queue.write(touch('b'));
  await writer.answer(new StoreError('full', 'no room'));
  await failed;
  await writer.answer(done(1));
  await next;
  assert.deepEqual(settled, [`${keyOf('a')} failed`, `${keyOf('b')} done`]);
});

for (const away of ['busy', 'dead'] as const) {
  test(`what waits behind a request that is given up as ${away} fails with it, what comes later does not`, async () => {
    const { queue, writer, settled } = tell();
    const given = [queue.write(touch('a')), queue.write(touch('a')), queue.write(touch('b'))];
    const asked = queue.ask({ kind: 'count', now: 0 });
    const failures = Promise.all(
      [...given, asked].map((each) => assert.rejects(each, { code: 'passing' })),
    );
    await writer.answer(away);
    await failures;
    assert.deepEqual(
      settled,
      ['a', 'a', 'b'].map((name) => `${keyOf(name)} failed`),
    );
    assert.equal(queue.pending.has(keyOf('a')), false);
    assert.equal(writer.requests.length, 1);
    const later = queue.write(touch('c'));
    await writer.answer(done(1));
    await later;
  });
}

test('a write is pending from its call until it is settled', async () => {
  const { queue, writer } = tell();
  const key = keyOf('a');
  void queue.write(touch('a'));
  void queue.write(touch('a'));
  await writer.answer(done(1));
  assert.equal(queue.pending.has(key), true);
  await writer.answer(done(1));
  assert.equal(queue.pending.has(key), false);
});

test('what was evicted for a batch is told', async () => {
  const { queue, writer, evicted } = tell();
  void queue.write(touch('a'));
  await writer.answer({ ...done(1), evicted: [keyOf('old')] });
  assert.deepEqual(evicted, [keyOf('old')]);
});

test('a queue that is too long refuses more, and one that is closed refuses all', async () => {
  const { queue, writer } = tell();
  const first = queue.write(touch('first'));
  const queued = Array.from({ length: 50_000 }, (_, index) => queue.write(touch(`k${index}`)));
  await assert.rejects(queue.write(touch('more')), { code: 'passing', message: /50000/ });
  const closed = queue.close();
  await assert.rejects(queue.write(touch('late')), { code: 'closed' });
  await writer.answer(done(1));
  for (let batch = 0; batch < 100; batch += 1) await writer.answer(done(500));
  await closed;
  await Promise.all([first, ...queued]);
});
