/** The queue by itself: what it sends to a store, in which order, and what it drops. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SessionKey } from '../../../src/session.ts';
import { type WriteBackResult, StoreError, type SessionStore } from '../../../src/store/store.ts';
import { NO_JOURNAL } from '../../../src/store/resilient/journal.ts';
import type { Write } from '../../../src/store/rules.ts';
import { createLocalCopy, type LocalCopy } from '../../../src/store/resilient/local-copy.ts';
import { Outbox } from '../../../src/store/resilient/outbox.ts';
import { createTestClock, type TestClock } from '../../support/clock.ts';
import { keyOf, keysOf } from '../../support/ids.ts';
import { A, B, countOf, TTL_MS } from '../resilient-world.ts';
import { createScriptedStore, fails, hangs, works, type ScriptedStore } from '../scripted.ts';
import { passing } from '../wrapped.ts';

const LIMITS = { maxSessions: 1_000_000, maxAgeMs: 0 };

interface Queue {
  readonly clock: TestClock;
  readonly localCopy: LocalCopy;
  readonly outbox: Outbox;
  readonly scripted: ScriptedStore;
  readonly store: SessionStore;
  readonly results: WriteBackResult[];
  readonly rejected: unknown[];
}

async function start(options: { maxKeys?: number; canProbe?: () => boolean } = {}): Promise<Queue> {
  const { maxKeys = 1_000, canProbe = () => true } = options;
  const clock = createTestClock();
  const localCopy = createLocalCopy(clock, LIMITS, 1_000);
  const results: WriteBackResult[] = [];
  const rejected: unknown[] = [];
  const scripted = createScriptedStore({ clock });
  const outbox = new Outbox({
    ...{ localCopy, clock, maxKeys, journal: NO_JOURNAL, maxAgeMs: 0, lifeMs: TTL_MS },
    probe: () =>
      canProbe() ? Promise.resolve() : Promise.reject(new StoreError('fatal', 'the probe too')),
    inTurn: (_key, act) => act(),
    onFlushed: (result) => results.push(result),
    onRejected: (error) => rejected.push(error),
  });
  const store = await scripted.open({ onError: () => undefined, onDisrupted: () => undefined });
  return { clock, localCopy, outbox, scripted, store, results, rejected };
}

function claim(
  { outbox, clock }: Queue,
  key: SessionKey,
  origin: 'learned' | 'copied' = 'learned',
) {
  const write: Write = { kind: 'claim', key, now: clock.now(), machine: A, origin, ttlMs: TTL_MS };
  return outbox.accept(write).outcome;
}

function remove({ outbox, clock }: Queue, key: SessionKey) {
  return outbox.accept({ kind: 'delete', key, now: clock.now(), ifMachine: A }).outcome;
}

describe('draining', () => {
  test('sends the oldest first, up to a number at once, and reports how many', async () => {
    const queue = await start();
    const several = keysOf('k', 25);
    for (const key of several) claim(queue, key);
    assert.equal(await queue.outbox.flush(queue.store, 10), 10);
    assert.deepEqual([...(await queue.scripted.held()).keys()], several.slice(0, 10));
    assert.equal(queue.outbox.depth, 15);
    assert.equal(await queue.outbox.flush(queue.store, 100), 15);
    assert.equal(await queue.outbox.flush(queue.store, 100), 0);
    assert.equal(queue.results.length, 25);
    for (const key of several) assert.equal(queue.localCopy.find(key)?.machine, A);
  });

  test('keeps a change that failed, and reports the error', async () => {
    const queue = await start();
    for (const key of keysOf('k', 5)) claim(queue, key);
    queue.scripted.setBehaviour({ writes: fails('full', 2) });
    await assert.rejects(queue.outbox.flush(queue.store, 100), { code: 'full' });
    assert.equal(queue.outbox.depth, 2);
    assert.equal(await queue.outbox.flush(queue.store, 100), 2);
  });

  test('keeps a change that arrived while it sent an older state', async () => {
    const queue = await start();
    const key = keyOf('k');
    claim(queue, key);
    queue.scripted.setBehaviour({ writes: hangs });
    const draining = queue.outbox.flush(queue.store, 100);
    await queue.clock.advance(1);
    remove(queue, key);
    queue.scripted.setBehaviour({ writes: works });
    await draining;
    assert.equal(queue.outbox.depth, 1);
    assert.equal((await queue.scripted.held()).size, 1);
    await queue.outbox.flush(queue.store, 100);
    assert.equal((await queue.scripted.held()).size, 0);
    assert.deepEqual(queue.results, ['written']);
    assert.equal(queue.localCopy.find(key), undefined);
  });

  test('abandons a store that hangs after ten seconds, and then sends nothing more to it', async () => {
    const queue = await start();
    const key = keyOf('k');
    queue.localCopy.remember(
      await queue.store.claim({ key, machine: A, origin: 'learned', ttlMs: TTL_MS }),
    );
    remove(queue, key);
    claim(queue, key);
    queue.scripted.setBehaviour({ writes: hangs });
    const draining = assert.rejects(queue.outbox.flush(queue.store, 100), { code: 'passing' });
    await queue.clock.advance(10_000);
    await draining;
    queue.scripted.setBehaviour({ writes: works });
    await queue.clock.advance(10);
    // The removal was in progress.
    assert.equal(countOf(queue.scripted, 'delete'), 1);
    assert.equal(countOf(queue.scripted, 'upsert'), 0);
    await passing(queue.clock, queue.outbox.flush(queue.store, 100));
    assert.equal((await queue.scripted.held()).size, 1);
    assert.equal(queue.clock.pendingCount(), 0);
  });

  test('skips expired changes', async () => {
    const queue = await start();
    claim(queue, keyOf('k'));
    await queue.clock.advance(TTL_MS);
    assert.equal(await queue.outbox.flush(queue.store, 100), 0);
    assert.equal(queue.outbox.depth, 0);
    assert.deepEqual(queue.scripted.calls, []);
    assert.deepEqual(queue.results, []);
  });
});

describe('a change that the store rejects permanently', () => {
  test('is sent three times, and dropped if the store accepts others', async () => {
    const queue = await start();
    claim(queue, keyOf('k'));
    queue.scripted.setBehaviour({ writes: fails('fatal') });
    assert.equal(await queue.outbox.flush(queue.store, 100), 0);
    assert.equal(await queue.outbox.flush(queue.store, 100), 0);
    assert.equal(queue.outbox.depth, 1);
    assert.deepEqual(queue.rejected, []);
    assert.equal(await queue.outbox.flush(queue.store, 100), 0);
    assert.equal(queue.outbox.depth, 0);
    assert.equal(queue.rejected.length, 1);
    assert.deepEqual(queue.results, ['dropped']);
  });

  test('is kept if the store accepts nothing', async () => {
    const queue = await start({ canProbe: () => false });
    claim(queue, keyOf('k'));
    queue.scripted.setBehaviour({ writes: fails('fatal') });
    for (let count = 0; count < 10; count += 1) {
      await assert.rejects(queue.outbox.flush(queue.store, 100), /the probe too/);
    }
    assert.equal(queue.outbox.depth, 1);
  });

  test('has its failures reset when it is accepted', async () => {
    const queue = await start();
    const key = keyOf('k');
    for (let count = 0; count < 3; count += 1) {
      claim(queue, key);
      queue.scripted.setBehaviour({ writes: fails('fatal', 2) });
      await queue.outbox.flush(queue.store, 100);
      await queue.outbox.flush(queue.store, 100);
      assert.equal(await queue.outbox.flush(queue.store, 100), 1);
    }
    assert.deepEqual(queue.rejected, []);
  });
});

describe('a queue that is full', () => {
  test('drops copies first, and returns dropped changes to lookups as long as it can', async () => {
    const queue = await start({ maxKeys: 10 });
    for (const key of keysOf('learned', 8)) claim(queue, key);
    for (const key of keysOf('copied', 2)) claim(queue, key, 'copied');
    for (const key of keysOf('more', 4)) claim(queue, key);
    assert.equal(queue.outbox.depth, 10);
    assert.deepEqual(queue.results, Array(4).fill('dropped'));
    const gone = [...keysOf('copied', 2), ...keysOf('learned', 2)];
    for (const key of gone) {
      assert.equal(queue.outbox.find(key), undefined);
      assert.equal(queue.localCopy.find(key)?.machine, A);
    }
  });

  test('drops expired changes before all others, and does not count them as lost', async () => {
    const queue = await start({ maxKeys: 10 });
    for (const key of keysOf('old', 5)) claim(queue, key);
    await queue.clock.advance(TTL_MS);
    for (const key of keysOf('new', 10)) claim(queue, key);
    assert.equal(queue.outbox.depth, 10);
    assert.deepEqual(queue.results, []);
  });
});

test('the age is that of the oldest change, from when it was first queued', async () => {
  const queue = await start();
  assert.equal(queue.outbox.ageMs(), 0);
  claim(queue, keyOf('k'));
  await queue.clock.advance(100);
  claim(queue, keyOf('k'));
  claim(queue, keyOf('other'));
  await queue.clock.advance(100);
  assert.equal(queue.outbox.ageMs(), 200);
});

test('a restored change does not replace an accepted one', async () => {
  const queue = await start();
  const key = keyOf('k');
  const { after } = claim(queue, key);
  assert.ok(after);
  queue.outbox.restore({ ...after, machine: B });
  await queue.outbox.flush(queue.store, 100);
  assert.equal((await queue.scripted.held()).get(key)?.machine, A);
});
