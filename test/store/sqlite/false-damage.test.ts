/** Damage is believed only when a fresh connection confirms it, whatever the first reader says. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { test, type TestContext } from 'node:test';
import type { Worker } from 'node:worker_threads';
import Database from 'better-sqlite3';
import type { LocalStore, StoreError } from '../../../src/store/store.ts';
import type { WriterMessage, WriterRequest } from '../../../src/store/sqlite/protocol.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { createPlace, type Place } from '../place.ts';

const A = machineId('a1');
const REPORT: WriterMessage = {
  kind: 'failed',
  failure: { code: 'damaged', message: 'the count of learned bindings is undefined' },
};

interface Story {
  readonly place: Place;
  readonly store: LocalStore;
  readonly errors: StoreError[];
  /** All that were started. */
  readonly workers: Worker[];
}

async function start(t: TestContext, onWorker: (worker: Worker) => void): Promise<Story> {
  const workers: Worker[] = [];
  const errors: StoreError[] = [];
  const listener = (worker: Worker): void => {
    workers.push(worker);
    onWorker(worker);
  };
  process.on('worker', listener);
  t.after(() => void process.off('worker', listener));
  const place = await createPlace(t);
  const store = await place.open({ onError: (error) => errors.push(error) });
  return { place, store, errors, workers };
}

/** The thread reports damage in place of its answer to the request of that kind. */
function lies(worker: Worker, kind: WriterRequest['kind'], thenDo: () => void): void {
  const post = worker.postMessage.bind(worker);
  worker.postMessage = (request: WriterRequest): void => {
    if (request.kind !== kind) {
      post(request);
      return;
    }
    queueMicrotask(() => {
      worker.emit('message', REPORT);
      thenDo();
    });
  };
}

function claim(store: LocalStore, name: string) {
  return store.claim({ key: keyOf(name), machine: A, origin: 'learned', ttlMs: 3_600_000 });
}

async function staysInUse({ place, store, errors }: Story): Promise<void> {
  assert.equal((await claim(store, 'again')).machine, A);
  const found = store.lookup(keyOf('new'));
  assert.equal(typeof found === 'object' && found.machine, A);
  assert.deepEqual(
    errors.filter(({ code }) => code === 'damaged'),
    [],
  );
  await store.close();
  const again = await place.open();
  assert.equal(typeof again.lookup(keyOf('new')), 'object');
}

test('a thread that is ended while it reads a count proves nothing against the file', async (t) => {
  let hasLied = false;
  const story = await start(t, (worker) => {
    if (!hasLied) lies(worker, 'write', () => void worker.terminate());
    hasLied = true;
  });
  assert.equal((await claim(story.store, 'new')).machine, A);
  assert.equal(story.workers.length, 2);
  await staysInUse(story);
});

test('threads that are ended one after the other prove nothing against the file', async (t) => {
  let lieCount = 0;
  const story = await start(t, (worker) => {
    if (lieCount < 2) lies(worker, 'write', () => void worker.terminate());
    lieCount += 1;
  });
  assert.equal((await claim(story.store, 'new')).machine, A);
  assert.equal(story.workers.length, 3);
  await staysInUse(story);
});

test('damage that the next thread does not find is none, and the request is done', async (t) => {
  let hasLied = false;
  const story = await start(t, (worker) => {
    if (!hasLied) lies(worker, 'write', () => undefined);
    hasLied = true;
  });
  assert.equal((await claim(story.store, 'new')).machine, A);
  assert.equal(story.workers.length, 2);
  assert.deepEqual(story.errors, []);
  await staysInUse(story);
});

test('damage that the next thread finds, too, is believed', async (t) => {
  const story = await start(t, (worker) => lies(worker, 'write', () => undefined));
  await assert.rejects(claim(story.store, 'new'), { code: 'damaged' });
  assert.equal(story.workers.length, 2);
  assert.deepEqual(
    story.errors.map(({ code }) => code),
    ['damaged'],
  );
});

test('a thread that is ended while it opens the file proves nothing against it', async (t) => {
  let workerCount = 0;
  const { place, store } = await start(t, (worker) => {
    workerCount += 1;
    if (workerCount !== 2) return;
    queueMicrotask(() => {
      worker.emit('message', REPORT);
      void worker.terminate();
    });
  });
  await claim(store, 'new');
  await store.close();
  // A thread that died says so; the next one may have found the file sound already.
  await place.open().catch((error: unknown) => assert.match(String(error), /died/));
  assert.ok(workerCount >= 2);
  assert.deepEqual(
    (await readdir(place.directory)).filter((name) => name.includes('.damaged-')),
    [],
  );
  assert.equal(typeof (await place.open()).lookup(keyOf('new')), 'object');
});

test('damage that a fresh connection does not find is none: a lookup is answered', async (t) => {
  const story = await start(t, () => undefined);
  await claim(story.store, 'new');
  const { store } = story;
  await store.close();
  const again = await story.place.open({ onError: (error) => story.errors.push(error) });
  const db = new Database(':memory:');
  const statement = Object.getPrototypeOf(db.prepare('SELECT 1')) as Database.Statement;
  db.close();
  const nonsense = t.mock.method(statement, 'get', () => ['no', 'numbers'], { times: 1 });
  const found = again.lookup(keyOf('new'));
  assert.equal(nonsense.mock.callCount(), 1);
  assert.equal(typeof found === 'object' && found.machine, A);
  assert.deepEqual(story.errors, []);
});
