/** The order of the reads and writes of one key. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { collectGarbage } from '../../src/collect-garbage.ts';
import { createPendingWrites, createWritesInFlight } from '../../src/store/in-flight.ts';
import type { Write } from '../../src/store/rules.ts';
import { keyOf } from '../support/ids.ts';

const KEY = keyOf('session');

/** Operations that end when the test resolves them. */
function start() {
  const inFlight = createWritesInFlight<string>();
  const under = new Map<string, PromiseWithResolvers<string>>();
  const perform = (name: string) => (): Promise<string> => {
    const work = Promise.withResolvers<string>();
    under.set(name, work);
    return work.promise;
  };
  const write = (name: string, key = KEY): Promise<string> =>
    inFlight.run({ ...touch(name), key }, perform(name));
  /** Resolves to the result of the write before it. */
  const read = (name: string, key = KEY): Promise<string> =>
    inFlight.read(key, async (written) => {
      await perform(name)();
      return String(written);
    });
  const settle = async (name: string, error?: Error): Promise<void> => {
    const work = under.get(name);
    assert.ok(work, `${name} was not performed`);
    under.delete(name);
    if (error) work.reject(error);
    else work.resolve(name);
    await nextTurn();
  };
  return { inFlight, write, read, settle, underWay: () => [...under.keys()].join(' ') };
}

function touch(name: string): Write {
  return { kind: 'touch', key: KEY, now: 0, ttlMs: name.length };
}

test('a single operation is performed immediately', () => {
  const { write, read, underWay } = start();
  void write('w1');
  void read('r1', keyOf('other'));
  assert.equal(underWay(), 'w1 r1');
});

test('a write waits for all operations called before it, a read for writes only', async () => {
  const { write, read, settle, underWay } = start();
  const all = [read('r1'), read('r2'), write('w1'), write('w2'), read('r3'), read('r4')];
  all.push(write('w3'));
  assert.equal(underWay(), 'r1 r2');
  await settle('r2');
  assert.equal(underWay(), 'r1');
  await settle('r1');
  assert.equal(underWay(), 'w1');
  await settle('w1');
  assert.equal(underWay(), 'w2');
  await settle('w2');
  assert.equal(underWay(), 'r3 r4');
  all.push(read('r5'));
  for (const name of ['r3', 'r4', 'w3', 'r5']) await settle(name);
  assert.deepEqual(await Promise.all(all), [
    ...['undefined', 'undefined', 'w1', 'w2', 'w2', 'w2', 'w3', 'w3'],
  ]);
});

test('a read called while only reads are in flight starts immediately', async () => {
  const { write, read, settle, underWay } = start();
  const all = [write('w1'), read('r1')];
  await settle('w1');
  all.push(read('r2'));
  assert.equal(underWay(), 'r1 r2');
  for (const name of ['r1', 'r2']) await settle(name);
  assert.deepEqual(await Promise.all(all), ['w1', 'w1', 'undefined']);
});

test('an operation that fails keeps the next ones waiting until then, and fails alone', async () => {
  const { write, read, settle, underWay } = start();
  const failing = assert.rejects(write('w1'), /full/);
  const [behind, next] = [read('r1'), write('w2')];
  assert.equal(underWay(), 'w1');
  await settle('w1', new Error('full'));
  await failing;
  await settle('r1', new Error('away'));
  await assert.rejects(behind, /away/);
  await settle('w2');
  assert.equal(await next, 'w2');
});

test('the writes in flight are listed in the order of their calls', async () => {
  const { inFlight, write, settle } = start();
  assert.equal(inFlight.of(KEY), undefined);
  const all = [write('w1'), write('second')];
  const listed = inFlight.of(KEY);
  assert.deepEqual(listed, [touch('w1'), touch('second')]);
  await settle('w1');
  assert.deepEqual(inFlight.of(KEY), [touch('second')]);
  await settle('second');
  assert.equal(inFlight.of(KEY), undefined);
  assert.equal(listed.length, 2);
  await Promise.all(all);
});

test('reads that overlap without a gap take no more memory than a few', async () => {
  const { read, settle } = start();
  void read('r0');
  const growths: number[] = [];
  let count = 0;
  let before = bytesInUse();
  for (let round = 0; round < 5; round += 1) {
    for (const end = count + 4_000; count < end; count += 1) {
      void read(`r${count + 1}`);
      await settle(`r${count}`);
    }
    const after = bytesInUse();
    growths.push(after - before);
    before = after;
  }
  // What else runs in this process takes memory now and then. A read that leaves something does so each time.
  assert.ok(Math.min(...growths) < 4_000 * BYTES_LEFT, growths.join(' '));
  await settle(`r${count}`);
});

/** Half of what a read left when each held the end of the one before it, in bytes. */
const BYTES_LEFT = 90;

function bytesInUse(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

test('a read that waits for no operation is informed of a write called meanwhile', () => {
  const { inFlight, write } = start();
  const [before, crossed, removed] = [KEY, KEY, keyOf('other')].map((key) =>
    inFlight.beginRead(key),
  );
  assert.equal(before?.(), false);
  void write('w1');
  inFlight.cross(keyOf('other'));
  assert.equal(crossed?.(), true);
  assert.equal(removed?.(), true);
  assert.equal(inFlight.beginRead(KEY)(), false);
});

test('no write of a key overlaps another operation of it, and all operations end', async () => {
  const steps = fc.array(
    fc.record({ isWrite: fc.boolean(), key: fc.nat({ max: 1 }), ends: fc.nat({ max: 3 }) }),
    { maxLength: 30 },
  );
  const property = fc.asyncProperty(steps, async (calls) => {
    const inFlight = createWritesInFlight<number>();
    const open: { key: number; isWrite: boolean; order: number; end: () => void }[] = [];
    const begun: number[][] = [[], []];
    const all: Promise<unknown>[] = [];
    for (const [order, { isWrite, key, ends }] of calls.entries()) {
      const perform = (): Promise<number> => {
        const beside = open.filter((each) => each.key === key);
        assert.ok(beside.every((each) => !isWrite && !each.isWrite));
        begun[key]?.push(order);
        return new Promise((resolve) => {
          open.push({ key, isWrite, order, end: () => resolve(order) });
        });
      };
      const name = keyOf(`k-${key}`);
      all.push(
        isWrite
          ? inFlight.run({ ...touch('w'), key: name }, perform)
          : inFlight.read(name, () => perform()),
      );
      for (const { end } of open.splice(0, ends)) end();
      await nextTurn();
    }
    let isOver = false;
    const ended = inFlight.ended().then(() => (isOver = true));
    while (open.length > 0) {
      assert.equal(isOver, false);
      for (const { end } of open.splice(0, 1)) end();
      await nextTurn();
    }
    await Promise.all([...all, ended]);
    for (const orders of begun) {
      const writes = orders.filter((order) => calls[order]?.isWrite);
      assert.deepEqual(
        writes,
        writes.toSorted((one, other) => one - other),
      );
    }
  });
  await fc.assert(property, { numRuns: 300 });
});

test('the time that the pending writes of one key cost grows with their number, not its square', () => {
  const pending = createPendingWrites();
  const writes = Array.from({ length: 20_000 }, (_, index) => touch(String(index)));
  const startedAt = performance.now();
  for (const write of writes) pending.add(write);
  const listed = pending.of(KEY);
  for (const write of writes.slice(0, -1)) pending.settle(write);
  // Milliseconds; copies of the list took close to a minute.
  assert.ok(performance.now() - startedAt < 5_000);
  assert.deepEqual(pending.of(KEY), writes.slice(-1));
  assert.equal(listed?.length, writes.length, 'a list that was read never changes');
});
