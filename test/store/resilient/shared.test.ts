/** Several Machines on one database that fails, loses data, and returns to an older state. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { MachineId } from '../../../src/session.ts';
import { createTestClock, type TestClock } from '../../support/clock.ts';
import { keyOf, keysOf } from '../../support/ids.ts';
import {
  A,
  B,
  binding,
  C,
  countOf,
  KEY,
  ownerOf,
  recovered,
  start,
  stated,
  TTL_MS,
  type World,
  type WorldOptions,
} from '../resilient-world.ts';
import { fails, hangs, late, works, type ScriptedStore } from '../scripted.ts';
import { passing, until } from '../wrapped.ts';

/** Any Machine with the longest outage is back by then, and has flushed its changes. */
const SETTLE_MS = 15_000;

interface Fleet {
  readonly clock: TestClock;
  readonly a: World;
  readonly b: World;
}

/** Two Machines, each with its own connection to one database. */
async function startFleet(t: TestContext, options: WorldOptions = {}): Promise<Fleet> {
  const clock = createTestClock();
  const a = await join(t, clock, A, undefined, options);
  const b = await join(t, clock, B, a.scripted, options);
  return { clock, a, b };
}

function join(
  t: TestContext,
  clock: TestClock,
  self: MachineId,
  beside: ScriptedStore | undefined,
  options: WorldOptions = {},
): Promise<World> {
  const shared = { clock, self, isShared: true, isRemote: true };
  return start(t, { ...shared, ...(beside && { beside }), ...options });
}

/** The connections of these Machines break; acknowledged data may be lost. */
function disrupt(...worlds: World[]): void {
  for (const { scripted } of worlds) scripted.hooks.onDisrupted();
}

describe('a shared store', () => {
  test('is shared while it works', async (t) => {
    const { clock, a } = await startFleet(t);
    assert.equal(a.store.isShared, true);
    await a.store.claim(binding());
    await clock.advance(1);
    assert.equal(a.store.isShared, true);
  });

  test('is not shared while it fails, nor until all changes are flushed and it has settled', async (t) => {
    const { clock, a } = await startFleet(t);
    const { scripted, store } = a;
    scripted.setBehaviour({ writes: fails() });
    await store.claim(binding());
    assert.equal(store.isShared, false);
    scripted.setBehaviour({ writes: hangs });
    await clock.advance(2_000);
    assert.equal(store.isShared, false);
    await recovered(a);
    assert.equal(store.isShared, false);
    await clock.advance(SETTLE_MS - 100);
    assert.equal(store.isShared, false);
    await clock.advance(200);
    assert.equal(store.isShared, true);
  });

  test('is not shared while reads fail, or before it was opened', async (t) => {
    const { clock, a } = await startFleet(t);
    a.scripted.setBehaviour({ reads: fails() });
    for (let count = 0; count < 3; count += 1) await a.store.lookup(KEY);
    assert.equal(a.store.isShared, false);
    const c = await join(t, clock, C, a.scripted, { script: { opening: fails() } });
    assert.equal(c.store.isShared, false);
    await recovered(c);
    assert.equal(c.store.isShared, false);
    await clock.advance(SETTLE_MS + 100);
    assert.equal(c.store.isShared, true);
  });

  test('is trusted again only when the Machine with the longest outage has flushed its changes', async (t) => {
    const { clock, a, b } = await startFleet(t, { random: () => 1 });
    for (const { scripted } of [a, b]) scripted.setBehaviour({ writes: fails() });
    await b.store.claim(binding({ key: keyOf('of-b'), machine: B, ttlMs: 10 * TTL_MS }));
    // The backoff of one is at its maximum; the other has just begun to fail.
    await clock.advance(60_000);
    await until(clock, () => countOf(b.scripted, 'upsert') === 9);
    await a.store.claim(binding({ ttlMs: 10 * TTL_MS }));
    for (const { scripted } of [a, b]) scripted.setBehaviour({ writes: works });
    await until(clock, () => a.store.health().state === 'healthy');
    assert.equal(await ownerOf(a.store, keyOf('of-b')), 'absent');
    assert.equal(a.store.isShared, false);
    await until(clock, () => a.store.isShared);
    assert.equal(await ownerOf(a.store, keyOf('of-b')), B);
  });

  test('keeps the first received of two sessions accepted at the same time, for both Machines', async (t) => {
    const { clock, a, b } = await startFleet(t);
    for (const { scripted } of [a, b]) scripted.setBehaviour({ reads: fails(), writes: fails() });
    await a.store.claim(binding());
    await clock.advance(5_000);
    await b.store.claim(binding({ machine: B }));
    await recovered(b);
    await recovered(a);
    assert.equal(await ownerOf(a.store), B);
    assert.equal(await ownerOf(b.store), B);
    assert.deepEqual(a.store.conflicts, [{ key: KEY, accepted: A, owner: B }]);
    assert.deepEqual(b.store.conflicts, []);
  });
});

describe('a shared store that has lost data', () => {
  test("receives each Machine's own bindings, and no others", async (t) => {
    const { clock, a, b } = await startFleet(t);
    const ofA = keysOf('a', 500);
    const ofB = keysOf('b', 500);
    for (const key of ofA) await a.store.claim(binding({ key }));
    for (const key of ofB) await b.store.claim(binding({ key, machine: B }));
    for (const key of ofB) assert.equal(await ownerOf(a.store, key), B);
    a.scripted.lose();
    disrupt(a);
    await recovered(a);
    assert.deepEqual([...(await a.scripted.held()).keys()].sort(), ofA.toSorted());
    disrupt(b);
    await recovered(b);
    assert.equal((await a.scripted.held()).size, 1_000);
    assert.equal(a.store.isShared, false);
    await clock.advance(SETTLE_MS);
    assert.equal(a.store.isShared, true);
  });

  test('is replaced by known bindings meanwhile, including those of other Machines', async (t) => {
    const { a, b } = await startFleet(t);
    await a.store.claim(binding());
    await b.store.claim(binding({ key: keyOf('of-b'), machine: B }));
    assert.equal(await ownerOf(a.store, keyOf('of-b')), B);
    a.scripted.lose();
    disrupt(a, b);
    assert.equal(await ownerOf(a.store), A);
    assert.equal(await ownerOf(a.store, keyOf('of-b')), B);
    await recovered(a);
    assert.equal(await ownerOf(a.store, keyOf('of-b')), B);
  });

  test('has all bindings again: with their age, expiry and generation', async (t) => {
    const { clock, a } = await startFleet(t);
    await a.store.upsert(stated({ generation: 4 }));
    await clock.advance(20_000);
    await a.store.touch(KEY, TTL_MS);
    const before = await a.store.lookup(KEY);
    await clock.advance(1_000);
    a.scripted.lose();
    disrupt(a);
    await recovered(a);
    assert.deepEqual((await a.scripted.held()).get(KEY), before);
  });

  test('and has an older owner receives the newer one again', async (t) => {
    const { a } = await startFleet(t);
    await a.scripted.data.claim(binding({ machine: C }));
    const older = await a.store.lookup(KEY);
    assert.equal(typeof older, 'object');
    await a.store.rebind(KEY, C, A, 'adopted', TTL_MS);
    a.scripted.lose();
    await a.scripted.data.claim(binding({ machine: C }));
    disrupt(a);
    assert.equal(await ownerOf(a.store), A);
    assert.equal(await ownerOf(a.store), A);
    await recovered(a);
    const held = (await a.scripted.held()).get(KEY);
    assert.deepEqual([held?.machine, held?.generation], [A, 2]);
  });

  test('and has given a session to another Machine meanwhile keeps it there, and reports that', async (t) => {
    const { a, b } = await startFleet(t);
    await a.store.claim(binding());
    a.scripted.lose();
    await b.store.claim(binding({ machine: B }));
    disrupt(a);
    assert.equal(await ownerOf(a.store), B);
    await recovered(a);
    assert.equal(await ownerOf(a.store), B);
    assert.deepEqual(a.store.conflicts, [{ key: KEY, accepted: A, owner: B }]);
  });

  test('twice in a row receives the bindings twice', async (t) => {
    const { a } = await startFleet(t);
    const several = keysOf('k', 1_000);
    for (const key of several) await a.store.claim(binding({ key }));
    a.scripted.lose();
    a.scripted.setBehaviour({ writes: late(1) });
    disrupt(a);
    await until(a.clock, () => countOf(a.scripted, 'upsert') > 500);
    assert.equal(a.store.health().state, 'recovering');
    a.scripted.lose();
    disrupt(a);
    await recovered(a);
    assert.equal((await a.scripted.held()).size, 1_000);
  });

  test('has all bindings again although one session is being written all the time', async (t) => {
    const { clock, a } = await startFleet(t);
    const [busy = KEY, other = KEY] = keysOf('k', 2);
    for (const key of [busy, other]) await passing(clock, a.store.claim(binding({ key })));
    a.scripted.lose(other);
    a.scripted.setBehaviour({ writes: late(100) });
    const writes = [a.store.touch(busy, TTL_MS)];
    disrupt(a);
    // Two are called in the time that one takes.
    await until(clock, async () => {
      writes.push(a.store.touch(busy, TTL_MS));
      return (await a.scripted.held()).has(other);
    });
    await passing(clock, Promise.all(writes));
  });
});

describe('a shared store that has not settled after data loss', () => {
  test('a session that is used before it was flushed again is extended, not lost', async (t) => {
    const { clock, a } = await startFleet(t);
    await a.store.claim(binding());
    a.scripted.lose();
    await clock.advance(1_000);
    disrupt(a);
    assert.equal(await a.store.touch(KEY, TTL_MS), true);
    const expiresAt = clock.now() + TTL_MS;
    await recovered(a);
    assert.equal((await a.scripted.held()).get(KEY)?.expiresAt, expiresAt);
  });

  test('a session that is ended before it was flushed again is not restored', async (t) => {
    const { a } = await startFleet(t);
    const several = keysOf('k', 1_000);
    for (const key of several) await a.store.claim(binding({ key }));
    // Nothing is lost, but the Machine does not know that.
    a.scripted.setBehaviour({ writes: late(1) });
    const ended = several.slice(0, 300).map((key) => a.store.delete(key, A));
    disrupt(a);
    await until(a.clock, () => countOf(a.scripted, 'upsert') >= 200);
    ended.push(...several.slice(300).map((key) => a.store.delete(key, A)));
    await passing(a.clock, Promise.all(ended));
    await recovered(a);
    assert.equal((await a.scripted.held()).size, 0);
    for (const key of several) assert.equal(await ownerOf(a.store, key), 'absent');
  });

  test('returns unknown no longer than it takes to settle', async (t) => {
    const { clock, a } = await startFleet(t);
    await a.scripted.data.claim(binding({ machine: B }));
    assert.equal(await ownerOf(a.store), B);
    await a.scripted.data.delete(KEY);
    disrupt(a);
    assert.equal(await ownerOf(a.store), B);
    await recovered(a);
    await clock.advance(SETTLE_MS);
    assert.equal(await ownerOf(a.store), 'absent');
  });
});
