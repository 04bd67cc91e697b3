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

type Response = WriterResponses[RequestKind] | 'busy' | 'dead';

/** A writer that responds when the test resolves it. */
interface ScriptedWriter {
  readonly requests: WriterRequest[];
  /** Responds to the oldest request without a response. */
  respond(respond: Response | StoreError): Promise<void>;
}

interface Scenario {
  readonly queue: WriteQueue;
  readonly writer: ScriptedWriter;
  readonly evicted: SessionKey[];
  readonly settled: string[];
}

function openQueue(pauseCount = 0): Scenario {
  const requests: WriterRequest[] = [];
  const waiting: PromiseWithResolvers<Response>[] = [];
  const evicted: SessionKey[] = [];
  const settled: string[] = [];
  const sendRequest = (request: WriterRequest): Promise<Response> => {
    requests.push(request);
    const waits = Promise.withResolvers<Response>();
    waiting.push(waits);
    return waits.promise;
  };
  const queue = createWriteQueue({
    ask: sendRequest as Ask,
    waitToRetry: (pause) => Promise.resolve(pause < pauseCount),
    onSettled: (write, outcome) => settled.push(`${write.key} ${outcome ? 'done' : 'failed'}`),
    onEvicted: (keys) => evicted.push(...keys),
  });
  const respond = async (response: Response | StoreError): Promise<void> => {
    const waits = waiting.shift();
    assert.ok(waits, 'no request was sent');
    if (response instanceof StoreError) waits.reject(response);
    else waits.resolve(response);
    await new Promise(setImmediate);
  };
  return { queue, writer: { requests, respond }, evicted, settled };
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

test('the first write is sent immediately, and writes that arrive meanwhile are sent together', async () => {
  const { queue, writer } = openQueue();
  const writes = ['a', 'b', 'c'].map((name) => queue.write(touch(name)));
  assert.deepEqual(keysIn(writer.requests[0]), [keyOf('a')]);
  assert.equal(writer.requests.length, 1);
  await writer.respond(done(1));
  assert.deepEqual(keysIn(writer.requests[1]), [keyOf('b'), keyOf('c')]);
  await writer.respond(done(2));
  assert.deepEqual(await Promise.all(writes), [OUTCOME, OUTCOME, OUTCOME]);
  void queue.write(touch('d'));
  assert.deepEqual(keysIn(writer.requests[2]), [keyOf('d')]);
});

test('two writes of one key are never in one batch', async () => {
  const { queue, writer } = openQueue();
  for (const name of ['first', 'a', 'b', 'a', 'c']) void queue.write(touch(name));
  await writer.respond(done(1));
  assert.deepEqual(keysIn(writer.requests[1]), [keyOf('a'), keyOf('b')]);
  await writer.respond(done(2));
  assert.deepEqual(keysIn(writer.requests[2]), [keyOf('a'), keyOf('c')]);
});

test('an operation that is not a write is sent alone, in its turn', async () => {
  const { queue, writer } = openQueue();
  void queue.write(touch('a'));
  void queue.write(touch('b'));
  const counted = queue.ask({ kind: 'count', now: 0 });
  void queue.write(touch('c'));
  await writer.respond(done(1));
  await writer.respond(done(1));
  assert.equal(writer.requests[2]?.kind, 'count');
  const count = { total: 1, expired: 0, sizeBytes: 0 };
  await writer.respond(count);
  assert.deepEqual(await counted, count);
  assert.deepEqual(keysIn(writer.requests[3]), [keyOf('c')]);
});

test('a busy database is retried once per pause', async () => {
  const { queue, writer } = openQueue(2);
  const write = queue.write(touch('a'));
  await writer.respond('busy');
  await writer.respond('busy');
  await writer.respond(done(1));
  assert.deepEqual(await write, OUTCOME);
  const response = assert.rejects(queue.write(touch('b')), { code: 'passing' });
  for (let attempt = 0; attempt < 3; attempt += 1) await writer.respond('busy');
  await response;
  assert.equal(writer.requests.length, 6);
});

test('a failed batch fails each of its writes and none after it', async () => {
  const { queue, writer, settled } = openQueue();
  const failed = assert.rejects(queue.write(touch('a')), { code: 'full', message: 'no room' });
  const next = queue.write(touch('b'));
  await writer.respond(new StoreError('full', 'no room'));
  await failed;
  await writer.respond(done(1));
  await next;
  assert.deepEqual(settled, [`${keyOf('a')} failed`, `${keyOf('b')} done`]);
});

for (const away of ['busy', 'dead'] as const) {
  test(`operations waiting behind a request abandoned as ${away} fail with it, later ones do not`, async () => {
    const { queue, writer, settled } = openQueue();
    const response = [queue.write(touch('a')), queue.write(touch('a')), queue.write(touch('b'))];
    const requested = queue.ask({ kind: 'count', now: 0 });
    const failures = Promise.all(
      [...response, requested].map((each) => assert.rejects(each, { code: 'passing' })),
    );
    await writer.respond(away);
    await failures;
    assert.deepEqual(
      settled,
      ['a', 'a', 'b'].map((name) => `${keyOf(name)} failed`),
    );
    assert.equal(queue.pending.of(keyOf('a')), undefined);
    assert.equal(writer.requests.length, 1);
    const later = queue.write(touch('c'));
    await writer.respond(done(1));
    await later;
  });
}

test('a write is pending from its call until it is resolved', async () => {
  const { queue, writer } = openQueue();
  const key = keyOf('a');
  void queue.write(touch('a'));
  void queue.write(touch('a'));
  await writer.respond(done(1));
  assert.deepEqual(queue.pending.of(key), [touch('a')]);
  await writer.respond(done(1));
  assert.equal(queue.pending.of(key), undefined);
});

test('reports the bindings that a batch evicted', async () => {
  const { queue, writer, evicted } = openQueue();
  void queue.write(touch('a'));
  await writer.respond({ ...done(1), evicted: [keyOf('old')] });
  assert.deepEqual(evicted, [keyOf('old')]);
});

test('a queue over its limit rejects more, and a closed one rejects all', async () => {
  const { queue, writer } = openQueue();
  const first = queue.write(touch('first'));
  const queued = Array.from({ length: 50_000 }, (_, index) => queue.write(touch(`k${index}`)));
  await assert.rejects(queue.write(touch('more')), { code: 'passing', message: /50000/ });
  const closed = queue.close();
  await assert.rejects(queue.write(touch('late')), { code: 'closed' });
  await writer.respond(done(1));
  for (let batch = 0; batch < 100; batch += 1) await writer.respond(done(500));
  await closed;
  await Promise.all([first, ...queued]);
});
