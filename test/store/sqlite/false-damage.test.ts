/** Damage counts only when a new connection confirms it, whatever the first reader reports. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { test, type TestContext } from 'node:test';
import type { Worker } from 'node:worker_threads';
import Database from 'better-sqlite3';
import type { LocalStore, StoreError } from '../../../src/store/store.ts';
import type { WriterMessage, WriterRequest } from '../../../src/store/sqlite/protocol.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { claim } from '../claims.ts';
import { createPlace, type Place } from '../place.ts';

const A = machineId('a1');
const REPORT: WriterMessage = {
  kind: 'failed',
  failure: { code: 'damaged', message: 'the count of learned bindings is undefined' },
};

interface Scenario {
  readonly place: Place;
  readonly store: LocalStore;
  readonly errors: StoreError[];
  /** All threads that were started. */
  readonly workers: Worker[];
}

async function start(t: TestContext, onWorker: (worker: Worker) => void): Promise<Scenario> {
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

/** The thread reports damage instead of its response to a request of that kind. */
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

async function staysInUse({ place, store, errors }: Scenario): Promise<void> {
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

test('a thread that is terminated while it reads a count does not mark the file as damaged', async (t) => {
  let hasLied = false;
  const scenario = await start(t, (worker) => {
    if (!hasLied) lies(worker, 'write', () => void worker.terminate());
    hasLied = true;
  });
  assert.equal((await claim(scenario.store, 'new')).machine, A);
  assert.equal(scenario.workers.length, 2);
  await staysInUse(scenario);
});

test('threads that are terminated one after the other do not mark the file as damaged', async (t) => {
  let lieCount = 0;
  const scenario = await start(t, (worker) => {
    if (lieCount < 2) lies(worker, 'write', () => void worker.terminate());
    lieCount += 1;
  });
  assert.equal((await claim(scenario.store, 'new')).machine, A);
  assert.equal(scenario.workers.length, 3);
  await staysInUse(scenario);
});

test('damage that the next thread does not find is ignored, and the request succeeds', async (t) => {
  let hasLied = false;
  const scenario = await start(t, (worker) => {
    if (!hasLied) lies(worker, 'write', () => undefined);
    hasLied = true;
  });
  assert.equal((await claim(scenario.store, 'new')).machine, A);
  assert.equal(scenario.workers.length, 2);
  assert.deepEqual(scenario.errors, []);
  await staysInUse(scenario);
});

test('damage that the next thread finds, too, is confirmed', async (t) => {
  const scenario = await start(t, (worker) => lies(worker, 'write', () => undefined));
  await assert.rejects(claim(scenario.store, 'new'), { code: 'damaged' });
  assert.equal(scenario.workers.length, 2);
  assert.deepEqual(
    scenario.errors.map(({ code }) => code),
    ['damaged'],
  );
});

test('a thread that is terminated while it opens the file does not mark it as damaged', async (t) => {
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
  // A terminated thread reports damage; the next one may already have found the file intact.
  await place.open().catch((error: unknown) => assert.match(String(error), /died/));
  assert.ok(workerCount >= 2);
  assert.deepEqual(
    (await readdir(place.directory)).filter((name) => name.includes('.damaged-')),
    [],
  );
  assert.equal(typeof (await place.open()).lookup(keyOf('new')), 'object');
});

test('damage that a new connection does not find is ignored: a lookup returns its binding', async (t) => {
  const scenario = await start(t, () => undefined);
  await claim(scenario.store, 'new');
  const { store } = scenario;
  await store.close();
  const again = await scenario.place.open({ onError: (error) => scenario.errors.push(error) });
  const db = new Database(':memory:');
  const statement = Object.getPrototypeOf(db.prepare('SELECT 1')) as Database.Statement;
  db.close();
  const nonsense = t.mock.method(statement, 'get', () => ['no', 'numbers'], { times: 1 });
  const found = again.lookup(keyOf('new'));
  assert.equal(nonsense.mock.callCount(), 1);
  assert.equal(typeof found === 'object' && found.machine, A);
  assert.deepEqual(scenario.errors, []);
});
