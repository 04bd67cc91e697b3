/** What a failing store costs the request path: nothing but what nobody can know. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SessionKey } from '../../../src/session.ts';
import { StoreError } from '../../../src/store/store.ts';
import { createTestClock } from '../../support/clock.ts';
import { keyOf } from '../../support/ids.ts';
import {
  A,
  B,
  binding,
  C,
  countOf,
  KEY,
  keys,
  ownerOf,
  recovered,
  start,
  stated,
  TTL_MS,
  type World,
} from '../resilient-world.ts';
import { createScriptedStore, fails, hangs, late, losesAnswers, works } from '../scripted.ts';
import { pass, passing, until } from '../wrapped.ts';

/** Beyond the longest pause of the supervisor. */
const LONG_MS = 11_000;

describe('a write that fails in passing', () => {
  const retries = { retryCount: 3, retryDelayMs: 100 };

  test('is tried again after growing pauses, and nobody notices', async (t) => {
    const { clock, scripted, store } = await start(t, retries);
    scripted.tell({ writes: fails('passing', 2) });
    const claim = store.claim(binding());
    await clock.advance(49);
    assert.equal(countOf(scripted, 'claim'), 1);
    await clock.advance(1);
    assert.equal(countOf(scripted, 'claim'), 2);
    await clock.advance(99);
    assert.equal(countOf(scripted, 'claim'), 2);
    await clock.advance(1);
    assert.equal((await claim).machine, A);
    assert.equal(countOf(scripted, 'claim'), 3);
    assert.deepEqual(store.reported, []);
    assert.deepEqual(store.writtenBack, []);
  });

  test('is not tried again more often than that', async (t) => {
    const { clock, scripted, store } = await start(t, { ...retries, retryCount: 2 });
    scripted.tell({ writes: fails() });
    await passing(clock, store.claim(binding()));
    assert.equal(countOf(scripted, 'claim'), 3);
    assert.equal(store.health().failing, 'writes');
  });

  test('is not tried again once its second is over', async (t) => {
    const { clock, scripted, store } = await start(t, {
      ...{ retryCount: 100, retryDelayMs: 800, random: () => 0.999 },
    });
    scripted.tell({ writes: fails() });
    const startedAt = clock.monotonicMs();
    await passing(clock, store.claim(binding()));
    assert.ok(clock.monotonicMs() - startedAt <= 1_000);
    assert.equal(countOf(scripted, 'claim'), 2);
    await pass(clock, LONG_MS);
    assert.equal(countOf(scripted, 'claim'), 2);
  });

  test('is not tried again in its own time when it was accepted long since', async (t) => {
    const { clock, scripted, store } = await start(t, { retryCount: 3, retryDelayMs: 1_000 });
    scripted.tell({ writes: fails('passing', 2) });
    const claim = store.claim(binding());
    await passing(clock, claim);
    await until(clock, () => store.health().state === 'healthy');
    assert.ok(clock.monotonicMs() < 1_400);
    await store.delete(KEY, A);
    await pass(clock, LONG_MS);
    assert.equal((await scripted.held()).size, 0);
  });

  test('is not tried again while a breaker is open', async (t) => {
    const { clock, scripted, store } = await start(t, { retryCount: 3, retryDelayMs: 400 });
    scripted.tell({ writes: fails('passing', 1) });
    const waiting = store.claim(binding());
    await clock.advance(0);
    scripted.tell({ writes: fails('fatal') });
    await store.claim(binding({ key: keyOf('other') }));
    assert.equal(store.health().failing, 'writes');
    await clock.advance(210);
    assert.equal((await waiting).machine, A);
    assert.equal(countOf(scripted, 'claim', KEY), 1);
  });

  for (const code of ['full', 'fatal', 'damaged'] as const) {
    test(`is not tried again where that can't help: ${code}`, async (t) => {
      const { clock, scripted, store } = await start(t, retries);
      scripted.tell({ writes: fails(code) });
      assert.equal((await passing(clock, store.claim(binding()))).machine, A);
      assert.equal(countOf(scripted, 'claim', KEY), 1);
    });
  }

  test('keeps its place before what is called after it for the same session', async (t) => {
    const { clock, scripted, store } = await start(t, retries);
    scripted.tell({ writes: fails('passing', 1) });
    const claim = store.claim(binding());
    const removal = store.delete(KEY, A);
    assert.equal(await ownerOf(store), 'absent');
    await passing(clock, Promise.all([claim, removal]));
    assert.equal(await removal, true);
    assert.equal(await ownerOf(store), 'absent');
    assert.equal((await scripted.held()).size, 0);
  });
});

describe('what is accepted while the store fails', () => {
  test('is there at once, and in the store once that works again, as it was accepted', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    const old = keyOf('old');
    const { createdAt } = await store.upsert(stated({ key: old, generation: 7 }));
    await clock.advance(1_000);
    scripted.tell({ writes: fails() });
    const claimed = await store.claim(binding());
    const moved = await store.rebind(old, A, B, 'adopted', TTL_MS);
    assert.deepEqual(await store.lookup(KEY), claimed);
    assert.deepEqual(await store.lookup(old), moved);
    assert.equal(moved?.generation, 8);
    assert.equal(moved.createdAt, createdAt);
    assert.equal((await scripted.held()).has(KEY), false);
    await clock.advance(700);
    await recovered(world);
    const held = await scripted.held();
    assert.deepEqual(held.get(KEY), claimed);
    assert.deepEqual(held.get(old), moved);
    assert.deepEqual(await store.lookup(KEY), claimed);
    assert.deepEqual(store.writtenBack, ['written', 'written']);
  });

  test('is told once a key, in the order in which the keys came', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    const several = keys('k', 300);
    scripted.tell({ writes: fails() });
    for (const key of several) await store.claim(binding({ key }));
    await clock.advance(1);
    for (const key of several.toReversed()) await store.touch(key, TTL_MS);
    const touchedAt = clock.now();
    scripted.calls.length = 0;
    await recovered(world);
    const told = scripted.calls.filter(({ name }) => name === 'upsert').map(({ key }) => key);
    assert.deepEqual(told, several);
    assert.equal(store.writtenBack.length, several.length);
    const held = await scripted.held();
    for (const key of several) assert.equal(held.get(key)?.expiresAt, touchedAt + TTL_MS);
  });

  test('may be a touch of what is known, and of what is not', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    const unknown = keyOf('unknown');
    await store.claim(binding());
    await scripted.data.claim(binding({ key: unknown, machine: B }));
    await clock.advance(10_000);
    scripted.tell({ writes: fails() });
    assert.equal(await store.touch(KEY, TTL_MS), true);
    await store.touch(unknown, TTL_MS);
    const expiresAt = clock.now() + TTL_MS;
    await clock.advance(200);
    const slid = await store.lookup(unknown);
    assert.equal(typeof slid === 'object' && slid.expiresAt, expiresAt);
    await recovered(world);
    const held = await scripted.held();
    assert.equal(held.get(KEY)?.expiresAt, expiresAt);
    assert.equal(held.get(unknown)?.expiresAt, expiresAt);
    assert.equal(held.get(unknown)?.machine, B);
  });

  test('may be an early expiry, which is over when the store works again', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    await store.claim(binding());
    scripted.tell({ writes: fails() });
    assert.equal(await store.expireWithin(KEY, 1_000), true);
    await clock.advance(999);
    assert.equal(await ownerOf(store), A);
    await clock.advance(1);
    assert.equal(await ownerOf(store), 'absent');
    await recovered(world);
    assert.equal((await scripted.held()).has(KEY), false);
    assert.equal(await ownerOf(store), 'absent');
  });

  test('may be an early expiry that is still to come', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    const unknown = keyOf('unknown');
    await store.claim(binding());
    await scripted.data.claim(binding({ key: unknown, machine: B }));
    scripted.tell({ writes: fails() });
    await store.expireWithin(KEY, 30_000);
    await store.expireWithin(unknown, 30_000);
    const expiresAt = clock.now() + 30_000;
    await recovered(world);
    const held = await scripted.held();
    assert.equal(held.get(KEY)?.expiresAt, expiresAt);
    assert.equal(held.get(unknown)?.expiresAt, expiresAt);
  });

  test('may be a delete: what was deleted does not come back', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    const unknown = keyOf('unknown');
    await store.claim(binding());
    await scripted.data.claim(binding({ key: unknown }));
    scripted.tell({ writes: fails() });
    assert.equal(await store.delete(KEY, A), true);
    await store.delete(unknown, A);
    assert.equal(await ownerOf(store), 'absent');
    assert.equal(await ownerOf(store, unknown), 'absent');
    assert.equal(await store.touch(KEY, TTL_MS), false);
    await clock.advance(100);
    await recovered(world);
    assert.deepEqual([...(await scripted.held()).keys()], []);
    assert.equal(await ownerOf(store), 'absent');
  });

  test("a delete of nobody's but one Machine's leaves another's alone, and visible", async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await scripted.data.claim(binding({ machine: B }));
    scripted.tell({ writes: fails() });
    await store.delete(KEY, A);
    assert.equal(await ownerOf(store), B);
    scripted.tell({ reads: fails() });
    for (let count = 0; count < 3; count += 1) assert.equal(await ownerOf(store), 'unknown');
    await recovered(world);
    assert.equal(await ownerOf(store), B);
    assert.equal((await scripted.held()).get(KEY)?.machine, B);
  });

  test('a session that is given up and then copied from its new owner is its new owner’s', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await store.claim(binding());
    scripted.tell({ writes: fails() });
    // As a Machine yields that has lost a conflict.
    await Promise.all([
      store.delete(KEY, A),
      store.upsert(stated({ machine: B, origin: 'copied' })),
    ]);
    assert.equal(await ownerOf(store), B);
    await recovered(world);
    assert.equal((await scripted.held()).get(KEY)?.machine, B);
    assert.deepEqual(store.conflicts, []);
  });

  test('a session that is moved and then deleted does not come back as its former owner’s', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await store.claim(binding());
    scripted.tell({ writes: fails() });
    await store.rebind(KEY, A, B, 'adopted', TTL_MS);
    assert.equal(await store.delete(KEY, B), true);
    await recovered(world);
    assert.equal((await scripted.held()).size, 0);
  });

  test('a session that is deleted and bound anew is as old as its second binding', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    await store.upsert(stated({ generation: 5 }));
    await clock.advance(1_000);
    scripted.tell({ writes: fails() });
    await store.delete(KEY, A);
    const anew = await store.claim(binding({ origin: 'adopted' }));
    assert.equal(anew.createdAt, clock.now());
    await recovered(world);
    assert.deepEqual((await scripted.held()).get(KEY), anew);
  });

  test('is lost neither to an answer that was lost, nor written twice by it', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    scripted.tell({ writes: losesAnswers() });
    const claimed = await store.claim(binding());
    await store.rebind(KEY, A, B, 'adopted', TTL_MS);
    assert.equal(await ownerOf(store), B);
    await recovered(world);
    const held = (await scripted.held()).get(KEY);
    assert.deepEqual([held?.machine, held?.generation], [B, 2]);
    assert.equal(held?.createdAt, claimed.createdAt);
    assert.deepEqual(store.conflicts, []);
  });

  test('is told neither longer nor shorter than it lives', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    scripted.tell({ writes: fails() });
    const { expiresAt } = await store.claim(binding());
    const gone = keyOf('gone');
    await store.claim(binding({ key: gone, ttlMs: 5_000 }));
    await clock.advance(20_000);
    await recovered(world);
    const held = await scripted.held();
    assert.equal(held.get(KEY)?.expiresAt, expiresAt);
    assert.equal(held.has(gone), false);
    assert.equal(await ownerOf(store, gone), 'absent');
  });
});

describe('what is still queued while the store recovers', () => {
  test('is changed in the queue, so that it is told in the order of the calls', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    const several = keys('k', 1_000);
    scripted.tell({ writes: fails() });
    for (const key of several) await store.claim(binding({ key }));
    scripted.tell({ writes: late(1) });
    await until(clock, () => store.health().state === 'recovering', 1);
    const last = several.slice(-100);
    assert.deepEqual(
      await Promise.all(last.map((key) => store.delete(key, A))),
      Array(100).fill(true),
    );
    const moved = several.slice(-200, -100);
    for (const key of moved) await store.rebind(key, A, B, 'adopted', TTL_MS);
    for (const key of last) assert.equal(await ownerOf(store, key), 'absent');
    assert.equal(store.health().state, 'recovering');
    await recovered(world);
    const held = await scripted.held();
    assert.equal(held.size, 900);
    for (const key of moved) assert.equal(held.get(key)?.machine, B);
  });
});

describe('what was bound elsewhere meanwhile', () => {
  test('stays: it is counted, told of once, and this side is corrected', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    scripted.tell({ reads: fails(), writes: fails() });
    assert.equal((await store.claim(binding())).machine, A);
    await store.touch(KEY, TTL_MS);
    const others = await scripted.data.claim(binding({ machine: B }));
    assert.equal(await ownerOf(store), A);
    await recovered(world);
    assert.equal(await ownerOf(store), B);
    assert.deepEqual((await scripted.held()).get(KEY), others);
    assert.deepEqual(store.writtenBack, ['conflict']);
    assert.deepEqual(store.conflicts, [{ key: KEY, accepted: A, owner: B }]);
    scripted.tell({ reads: fails() });
    assert.equal(await ownerOf(store), B);
  });

  test('gives way to what was moved here by a higher generation', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await store.upsert(stated({ machine: B }));
    scripted.tell({ writes: fails() });
    await store.rebind(KEY, B, A, 'adopted', TTL_MS);
    await scripted.data.touch(KEY, 2 * TTL_MS);
    await recovered(world);
    assert.equal((await scripted.held()).get(KEY)?.machine, A);
    assert.deepEqual(store.conflicts, []);
  });

  test('is not deleted by a delete of what was there before it', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await store.claim(binding());
    scripted.tell({ writes: fails() });
    await store.delete(KEY);
    await scripted.data.rebind(KEY, A, B, 'adopted', TTL_MS);
    await recovered(world);
    assert.equal(await ownerOf(store), B);
  });

  test('is not forgotten for what is accepted here while it is being told', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    scripted.tell({ writes: fails() });
    await store.claim(binding());
    await scripted.data.claim(binding({ machine: B }));
    scripted.tell({ writes: hangs });
    await pass(clock, LONG_MS / 2);
    assert.ok(countOf(scripted, 'upsert', KEY) > 0);
    await store.rebind(KEY, A, C, 'adopted', TTL_MS);
    await recovered(world);
    assert.equal((await scripted.held()).get(KEY)?.machine, C);
    assert.equal(await ownerOf(store), C);
  });
});

describe('a breaker', () => {
  test('that is open lets no request through, only probes after growing pauses', async (t) => {
    const { clock, scripted, store } = await start(t, { random: () => 1 });
    scripted.tell({ reads: fails(), writes: fails('fatal') });
    for (const key of keys('first', 3)) await store.lookup(key);
    await store.claim(binding());
    assert.equal(store.health().failing, 'all');
    scripted.calls.length = 0;
    const probedAt: number[] = [];
    for (let seconds = 0; seconds < 40; seconds += 0.05) {
      for (const key of keys('k', 20)) {
        await store.claim(binding({ key }));
        await store.lookup(key);
      }
      await store.lookup(keyOf('never-bound'));
      await clock.advance(50);
      for (const call of scripted.calls.splice(0)) {
        assert.equal(call.key, '0'.repeat(32), `${call.name} has reached the store`);
        probedAt.push(clock.monotonicMs());
      }
    }
    const pauses = probedAt.map((at, index) => at - (probedAt[index - 1] ?? 0));
    assert.deepEqual(pauses, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
  });

  test('spreads its probes by chance', async (t) => {
    const { clock, scripted, store } = await start(t, { random: () => 0 });
    scripted.tell({ writes: fails() });
    await store.claim(binding());
    await clock.advance(249);
    assert.equal(countOf(scripted, 'upsert'), 0);
    await clock.advance(2);
    assert.equal(countOf(scripted, 'upsert'), 1);
  });

  test('of the writes leaves the reads alone', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await scripted.data.claim(binding({ machine: B }));
    scripted.tell({ writes: fails() });
    await store.claim(binding({ key: keyOf('other') }));
    assert.equal(store.health().failing, 'writes');
    assert.equal(await ownerOf(store), B);
    assert.equal(await ownerOf(store, keyOf('third')), 'absent');
    await scripted.data.delete(KEY);
    assert.equal(await ownerOf(store), 'absent');
  });

  test('of the reads opens at the third failure in a row, and leaves the writes alone', async (t) => {
    const { scripted, store } = await start(t);
    scripted.tell({ reads: fails('passing', 2) });
    assert.equal(await ownerOf(store), 'unknown');
    assert.equal(await ownerOf(store), 'unknown');
    assert.equal(await ownerOf(store), 'absent');
    scripted.tell({ reads: fails() });
    for (let count = 0; count < 10; count += 1) assert.equal(await ownerOf(store), 'unknown');
    assert.equal(countOf(scripted, 'lookup'), 6);
    assert.equal(store.health().failing, 'reads');
    await store.claim(binding());
    assert.equal(countOf(scripted, 'claim'), 1);
    assert.equal((await scripted.held()).size, 1);
    assert.equal(await ownerOf(store), A);
  });

  test('is not opened for longer by writes that were under way when it opened', async (t) => {
    const { clock, scripted, store } = await start(t, { random: () => 1 });
    scripted.tell({ writes: hangs });
    const writes: Promise<unknown>[] = [];
    for (const key of keys('k', 20)) {
      writes.push(store.claim(binding({ key })));
      await clock.advance(45);
    }
    await clock.advance(2_000);
    await Promise.all(writes);
    const [degraded] = store.reported;
    assert.equal(degraded?.state, 'degraded');
    scripted.tell({ writes: works });
    await clock.advance(600);
    assert.equal(store.health().state, 'healthy');
  });

  test('is not opened again by a write that was called before it closed', async (t) => {
    const clock = createTestClock();
    const scripted = createScriptedStore({ clock });
    const slow = keyOf('slow');
    const never = new Promise<never>(() => undefined);
    const { store } = await start(t, {
      clock,
      open: async (hooks) => {
        const opened = await scripted.open(hooks);
        return {
          ...opened,
          claim: (one) => (one.key === slow ? never : opened.claim(one)),
        };
      },
    });
    const claim = store.claim(binding({ key: slow }));
    scripted.tell({ writes: fails('passing', 1) });
    await store.claim(binding());
    await until(clock, () => store.health().state === 'healthy');
    await passing(clock, claim);
    await until(clock, () => store.health().state === 'healthy');
    assert.equal(store.reported.filter(({ state }) => state === 'degraded').length, 1);
    assert.equal((await scripted.held()).size, 2);
  });

  test('of the reads is probed in its own time, however long that of the writes is open', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.tell({ writes: fails() });
    await store.claim(binding());
    await clock.advance(30_000);
    const probes = countOf(scripted, 'upsert');
    await until(clock, () => countOf(scripted, 'upsert') > probes);
    scripted.tell({ reads: fails('passing', 3) });
    for (let count = 0; count < 3; count += 1) await store.lookup(keyOf('other'));
    assert.equal(store.health().failing, 'all');
    await clock.advance(500);
    assert.equal(store.health().failing, 'writes');
  });

  test('changes are told one by one, and nothing a request', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    scripted.tell({ reads: fails(), writes: fails() });
    for (const key of keys('k', 500)) {
      await store.claim(binding({ key }));
      await store.lookup(keyOf('other'));
    }
    await clock.advance(30_000);
    assert.deepEqual(
      store.reported.map(({ state, failing }) => [state, failing]),
      [
        ['degraded', 'writes'],
        ['degraded', 'all'],
      ],
    );
    await recovered(world);
    assert.deepEqual(
      store.reported.slice(2).map(({ state, failing }) => [state, failing]),
      [
        ['degraded', 'writes'],
        ['recovering', 'none'],
        ['healthy', 'none'],
      ],
    );
    assert.deepEqual(store.errors, []);
  });

  test('is told with its cause, its age and what waits', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.tell({ reads: fails(), writes: fails('full') });
    await store.claim(binding());
    await clock.advance(100);
    await store.claim(binding({ key: keyOf('other') }));
    await clock.advance(100);
    assert.deepEqual(store.health(), {
      ...{ state: 'degraded', failing: 'writes', code: 'full', reason: 'scripted: writes fail' },
      forMs: 200,
      writeBack: { depth: 2, ageMs: 200, isDurable: false },
    });
  });
});

describe('a write that takes longer than its second', () => {
  for (const [comes, ending] of [
    ['a late success', works],
    ['a late failure', fails('passing', 1)],
    ['a late failure though it was done', losesAnswers(1)],
  ] as const) {
    test(`is accepted here, and ${comes} does no harm`, async (t) => {
      const world = await start(t);
      const { clock, scripted, store } = world;
      scripted.tell({ writes: hangs });
      const claim = store.claim(binding());
      await clock.advance(1_000);
      const claimed = await claim;
      assert.deepEqual(await store.lookup(KEY), claimed);
      await store.rebind(KEY, A, B, 'adopted', TTL_MS);
      await clock.advance(100);
      scripted.tell({ writes: ending });
      await recovered(world);
      const held = (await scripted.held()).get(KEY);
      assert.deepEqual([held?.machine, held?.generation], [B, 2]);
      assert.equal(await ownerOf(store), B);
    });
  }

  test('is not back from the dead when it is done after its session was deleted', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    scripted.tell({ writes: hangs });
    const claim = store.claim(binding());
    const removal = store.delete(KEY, A);
    assert.equal(await ownerOf(store), 'absent');
    await clock.advance(1_000);
    await claim;
    assert.equal(await removal, true);
    await recovered(world);
    assert.equal((await scripted.held()).size, 0);
    assert.equal(await ownerOf(store), 'absent');
  });

  test('keeps nobody: neither its caller, nor the sessions beside it, nor a lookup', async (t) => {
    const { clock, scripted, store } = await start(t, { isRemote: true });
    scripted.tell({ reads: hangs, writes: hangs });
    const claims = Promise.all(keys('k', 50).map((key) => store.claim(binding({ key }))));
    const lookups = Promise.all(keys('other', 50).map(async (key) => store.lookup(key)));
    await clock.advance(1_000);
    assert.ok((await claims).every(({ machine }) => machine === A));
    assert.ok((await lookups).every((found) => found === 'unknown'));
    assert.equal(store.health().failing, 'all');
    assert.equal((await store.claim(binding())).machine, A);
    assert.equal(await ownerOf(store), A);
  });

  test('degrades the store no longer than it is slow', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.tell({ writes: late(1_500) });
    const claim = store.claim(binding());
    await clock.advance(1);
    scripted.tell({ writes: works });
    await clock.advance(1_000);
    await claim;
    await clock.advance(1_500);
    assert.equal(store.health().state, 'healthy');
    assert.deepEqual(store.writtenBack, ['written']);
  });
});

describe('what the local copy does not know', () => {
  test('is unknown, and absent only after a time to live without the store', async (t) => {
    const { clock, scripted, store } = await start(t);
    await scripted.data.claim(binding());
    scripted.tell({ reads: fails() });
    for (let count = 0; count < 3; count += 1) assert.equal(await ownerOf(store), 'unknown');
    await clock.advance(TTL_MS - 1);
    assert.equal(await ownerOf(store), 'unknown');
    await clock.advance(1);
    assert.equal(await ownerOf(store), 'absent');
  });

  test('is never absent where others may have bound it', async (t) => {
    const { clock, scripted, store } = await start(t, { isShared: true, isRemote: true });
    scripted.tell({ reads: fails() });
    for (let count = 0; count < 3; count += 1) assert.equal(await ownerOf(store), 'unknown');
    await clock.advance(2 * TTL_MS);
    await scripted.data.claim(binding({ machine: B }));
    assert.equal(await ownerOf(store), 'unknown');
  });

  test('is asked of the store again as soon as that works', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    await scripted.data.claim(binding());
    scripted.tell({ reads: fails() });
    for (let count = 0; count < 3; count += 1) await store.lookup(KEY);
    await clock.advance(5_000);
    await recovered(world);
    assert.equal(await ownerOf(store), A);
  });

  test('what it knows is what was read or written last', async (t) => {
    const { scripted, store } = await start(t);
    const read = keyOf('read');
    const removed = keyOf('removed');
    await scripted.data.claim(binding({ key: read, machine: B }));
    await store.lookup(read);
    await store.claim(binding());
    await store.claim(binding({ key: removed }));
    await store.lookup(removed);
    await store.delete(removed, A);
    const goneElsewhere = keyOf('gone-elsewhere');
    await store.claim(binding({ key: goneElsewhere }));
    await scripted.data.delete(goneElsewhere);
    await store.lookup(goneElsewhere);
    scripted.tell({ reads: fails() });
    for (let count = 0; count < 3; count += 1) await store.lookup(KEY);
    assert.equal(await ownerOf(store), A);
    assert.equal(await ownerOf(store, read), B);
    assert.equal(await ownerOf(store, removed), 'unknown');
    assert.equal(await ownerOf(store, goneElsewhere), 'unknown');
  });

  test('a lookup that was overtaken by a delete is not remembered', async (t) => {
    const { clock, scripted, store } = await start(t, { isRemote: true });
    await scripted.data.claim(binding());
    scripted.tell({ reads: late(100) });
    const lookup = store.lookup(KEY);
    // The answer is on its way already.
    await clock.advance(50);
    const asked = await passing(clock, store.delete(KEY, A));
    assert.equal(asked, true);
    await scripted.data.claim(binding());
    await clock.advance(100);
    assert.equal(typeof (await lookup), 'object');
    scripted.tell({ reads: fails() });
    for (let count = 0; count < 3; count += 1) assert.equal(await ownerOf(store), 'unknown');
  });
});

describe('opening', () => {
  test('a store that can not be opened is opened later, and told everything', async (t) => {
    const world = await start(t, { script: { opening: fails('fatal') } });
    const { clock, scripted, store } = world;
    assert.deepEqual(
      [store.health().state, store.health().failing, store.health().code],
      ['degraded', 'all', 'fatal'],
    );
    await scripted.data.claim(binding({ key: keyOf('old') }));
    assert.equal(await ownerOf(store, keyOf('old')), 'unknown');
    const claimed = await store.claim(binding());
    assert.deepEqual(await store.lookup(KEY), claimed);
    await clock.advance(20_000);
    const openCount = scripted.openCount;
    assert.ok(openCount >= 4 && openCount <= 8, `it was tried ${openCount} times`);
    await recovered(world);
    assert.deepEqual((await scripted.held()).get(KEY), claimed);
    assert.equal(await ownerOf(store, keyOf('old')), A);
    assert.equal(store.reported.length, 3);
  });

  test('a start waits five seconds at most for a store that hangs, which is used once it is there', async (t) => {
    const world = await start(t, { script: { opening: hangs } });
    const { clock, scripted, store } = world;
    assert.ok(clock.monotonicMs() >= 5_000 && clock.monotonicMs() <= 5_100);
    assert.equal(store.health().failing, 'all');
    assert.equal(await ownerOf(store), 'unknown');
    await store.claim(binding());
    await clock.advance(30_000);
    assert.equal(scripted.openCount, 1);
    await recovered(world);
    assert.equal(await ownerOf(store), A);
    assert.equal((await scripted.held()).get(KEY)?.machine, A);
  });

  test('a store that opens when all was closed is closed again', async (t) => {
    const { clock, scripted, store } = await start(t, { script: { opening: hangs } });
    await passing(clock, store.close());
    scripted.tell({ opening: works });
    await until(clock, () => scripted.closeCount === 1);
  });
});

describe('damage', () => {
  test('is mended: the store is closed, opened anew and filled from memory', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    const several = keys('k', 1_000);
    await Promise.all(several.map((key) => store.claim(binding({ key }))));
    const before = await store.lookup(several[7] ?? KEY);
    scripted.lose();
    scripted.tell({ writes: fails('damaged', 1) });
    await store.claim(binding());
    await recovered(world);
    assert.equal(scripted.openCount, 2);
    assert.equal(scripted.closeCount, 1);
    const held = await scripted.held();
    assert.equal(held.size, 1_001);
    assert.deepEqual(held.get(several[7] ?? KEY), before);
  });

  test('that only a hook tells of is mended too, at once', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    await store.claim(binding());
    scripted.lose();
    scripted.hooks.onError(new StoreError('damaged', 'scripted'));
    assert.equal(store.errors.length, 1);
    assert.equal(await ownerOf(store), A);
    await clock.advance(0);
    await recovered(world);
    assert.equal(scripted.openCount, 2);
    assert.equal((await scripted.held()).size, 1);
  });

  test('that is heard of late, of a store that was given up, is no damage of the new one', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    await store.claim(binding());
    const old = scripted.hooks;
    old.onError(new StoreError('damaged', 'scripted'));
    await recovered(world);
    assert.equal(scripted.openCount, 2);
    scripted.calls.length = 0;
    old.onError(new StoreError('damaged', 'scripted'));
    old.onDisrupted();
    await pass(clock, LONG_MS);
    assert.equal(scripted.openCount, 2);
    assert.deepEqual(scripted.calls, []);
    // It is told all the same: where a damaged file was set aside, say.
    assert.equal(store.errors.length, 2);
  });

  test('that a write finds in a store that was given up is no damage of the new one', async (t) => {
    const clock = createTestClock();
    const scripted = createScriptedStore({ clock });
    const failing: ((error: StoreError) => void)[] = [];
    const neverWrites = (): Promise<never> => new Promise((_, reject) => void failing.push(reject));
    const world = await start(t, {
      clock,
      open: async (hooks) => {
        const opened = await scripted.open(hooks);
        return scripted.openCount > 1 ? opened : { ...opened, claim: neverWrites };
      },
    });
    const claim = world.store.claim(binding());
    scripted.hooks.onError(new StoreError('damaged', 'scripted'));
    await until(clock, () => scripted.openCount === 2);
    for (const fail of failing) fail(new StoreError('damaged', 'scripted, late'));
    assert.equal((await claim).machine, A);
    assert.ok(clock.monotonicMs() < 1_000);
    await recovered(world);
    await pass(clock, LONG_MS);
    assert.equal(scripted.openCount, 2);
    assert.equal((await scripted.held()).size, 1);
  });

  test('of a write under way in a store that was given up leaves the new one alone', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    scripted.tell({ writes: hangs });
    const claim = store.claim(binding());
    await clock.advance(1);
    scripted.hooks.onError(new StoreError('damaged', 'scripted'));
    scripted.tell({ closing: works });
    await passing(clock, claim);
    await recovered(world);
    assert.equal(scripted.openCount, 2);
    assert.deepEqual([...(await scripted.held()).keys()], [KEY]);
  });

  test('again and again is mended ever more slowly', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.tell({ writes: fails('damaged') });
    await store.claim(binding({ ttlMs: 100 * 3_600_000 }));
    const openedAt: number[] = [];
    for (let count = 1; clock.monotonicMs() < 3_600_000;) {
      await clock.advance(500);
      if (scripted.openCount === count) continue;
      count = scripted.openCount;
      openedAt.push(clock.monotonicMs());
    }
    assert.ok(openedAt.length < 25, `opened ${openedAt.length} times in an hour`);
    const pauses = openedAt.map((at, index) => at - (openedAt[index - 1] ?? 0));
    assert.deepEqual(
      pauses.slice(0, 4),
      pauses.slice(0, 4).sort((one, other) => one - other),
    );
    assert.ok(pauses.every((pause) => pause <= 301_000));
  });

  test('while a close hangs is mended all the same', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await store.claim(binding());
    scripted.tell({ closing: hangs });
    scripted.hooks.onError(new StoreError('damaged', 'scripted'));
    await recovered(world);
    assert.equal(scripted.openCount, 2);
  });

  test('of a store that says it is closed is mended by opening it anew', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    scripted.tell({ writes: fails('closed', 1) });
    assert.equal((await store.claim(binding())).machine, A);
    await recovered(world);
    assert.equal(scripted.openCount, 2);
    assert.equal((await scripted.held()).size, 1);
  });

  test('a session that is deleted while the store is filled does not come back', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    const several = keys('k', 3_000);
    await Promise.all(several.map((key) => store.claim(binding({ key }))));
    scripted.lose();
    scripted.tell({ writes: late(1) });
    scripted.hooks.onError(new StoreError('damaged', 'scripted'));
    await until(clock, () => countOf(scripted, 'upsert') > 300);
    assert.equal(store.health().state, 'recovering');
    const removed = several.filter((_, index) => index % 10 === 0);
    const touched = several.filter((_, index) => index % 10 === 1);
    const writes = Promise.all([
      ...removed.map((key) => store.delete(key, A)),
      ...touched.map((key) => store.touch(key, 2 * TTL_MS)),
    ]);
    await passing(clock, writes);
    await recovered(world);
    const held = await scripted.held();
    assert.equal(held.size, 2_700);
    for (const key of removed) assert.equal(await ownerOf(store, key), 'absent');
    for (const key of touched) assert.ok((held.get(key)?.expiresAt ?? 0) > clock.now() + TTL_MS);
  });
});

describe('a full store', () => {
  test('is cleaned up before it is tried again', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    scripted.tell({ writes: fails('full') });
    await store.claim(binding());
    await clock.advance(600);
    const names = scripted.calls.map(({ name }) => name);
    assert.deepEqual(names, ['claim', 'cleanup', 'claim']);
    await recovered(world);
    assert.equal((await scripted.held()).get(KEY)?.machine, A);
  });
});

describe('a binding that the store refuses for good', () => {
  /** A key at which something else is stored, say. */
  const refused = keyOf('refused');
  const refusing = ({ scripted }: World): void => {
    const upsert = scripted.data.upsert.bind(scripted.data);
    const refuse = (key: SessionKey): boolean => key === refused;
    Object.assign(scripted.data, {
      upsert: (one: Parameters<typeof upsert>[0]) =>
        refuse(one.key) ? Promise.reject(new StoreError('fatal', 'refused')) : upsert(one),
    });
  };

  test('keeps no other from the store, and is given up', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    refusing(world);
    scripted.tell({ writes: fails() });
    for (const key of [refused, ...keys('k', 3)]) await store.claim(binding({ key }));
    await clock.advance(100);
    await recovered(world);
    assert.equal((await scripted.held()).size, 3);
    assert.equal(store.errors.length, 1);
    assert.deepEqual(store.writtenBack.toSorted(), ['dropped', 'written', 'written', 'written']);
  });
});

describe('the queue', () => {
  const limits = { maxSessions: 100, maxAgeMs: 0 };

  test('is bounded: the oldest of the least worth go, and are counted', async (t) => {
    const world = await start(t, { limits });
    const { scripted, store } = world;
    scripted.tell({ writes: fails() });
    const claims = (prefix: string, count: number, origin: 'learned' | 'adopted') =>
      Promise.all(keys(prefix, count).map((key) => store.claim(binding({ key, origin }))));
    await claims('learned', 90, 'learned');
    await claims('adopted', 1_000, 'adopted');
    const { depth } = store.health().writeBack;
    assert.ok(depth >= 100 && depth <= 101, `${depth} wait`);
    assert.equal(store.writtenBack.length, 1_090 - depth);
    assert.ok(store.writtenBack.every((result) => result === 'dropped'));
    await recovered(world);
    const held = await scripted.held();
    for (const key of keys('learned', 90)) assert.ok(held.has(key));
    assert.ok(held.has(keyOf('adopted-999')));
  });

  test('forgets what has expired, which is no loss', async (t) => {
    const world = await start(t, { limits });
    const { clock, scripted, store } = world;
    scripted.tell({ writes: fails() });
    for (let round = 0; round < 5; round += 1) {
      for (const key of keys(`round-${round}`, 50))
        await store.claim(binding({ key, ttlMs: 1_000 }));
      await clock.advance(1_000);
    }
    assert.deepEqual(store.writtenBack, []);
    await store.claim(binding());
    await store.cleanup();
    assert.equal(store.health().writeBack.depth, 1);
    await recovered(world);
    assert.deepEqual([...(await scripted.held()).keys()], [KEY]);
  });
});

describe('while the store fails', () => {
  test('a listing has what is known, as it was accepted', async (t) => {
    const { scripted, store } = await start(t);
    await Promise.all(keys('k', 10).map((key) => store.claim(binding({ key }))));
    await scripted.data.claim(binding({ key: keyOf('unknown'), machine: B }));
    scripted.tell({ writes: fails() });
    await store.delete(keyOf('k-0'), A);
    await store.rebind(keyOf('k-1'), A, B, 'adopted', TTL_MS);
    await store.claim(binding());
    const list = async (): Promise<string[]> => {
      const found: string[] = [];
      for await (const { key, machine } of store.entries()) found.push(`${key} ${machine}`);
      return found.sort();
    };
    const expected = [
      ...keys('k', 10)
        .slice(2)
        .map((key) => `${key} ${A}`),
      ...[`${keyOf('k-1')} ${B}`, `${KEY} ${A}`],
    ];
    assert.deepEqual(await list(), [...expected, `${keyOf('unknown')} ${B}`].sort());
    scripted.tell({ reads: fails() });
    for (let count = 0; count < 3; count += 1) await store.lookup(keyOf('other'));
    assert.deepEqual(await list(), expected.sort());
  });

  test('the metrics go on counting, and never fall back', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await Promise.all(keys('k', 10).map((key) => store.claim(binding({ key }))));
    assert.equal((await store.getMetrics()).upserts, 10);
    scripted.tell({ reads: fails(), writes: fails() });
    for (let count = 0; count < 3; count += 1) await store.lookup(KEY);
    await store.claim(binding());
    const degraded = await store.getMetrics();
    assert.equal(degraded.total, 11);
    assert.equal(degraded.upserts, 11);
    await recovered(world);
    scripted.lose();
    scripted.hooks.onError(new StoreError('damaged', 'scripted'));
    await recovered(world);
    const after = await store.getMetrics();
    assert.equal(after.total, 11);
    assert.ok(after.upserts >= 22, `${after.upserts} were counted`);
  });

  test('a clean-up that hangs is given up', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.tell({ writes: hangs });
    const givenUp = assert.rejects(store.cleanup(), { code: 'passing' });
    for (let minute = 0; minute <= 5; minute += 1) await clock.advance(60_000);
    await givenUp;
  });

  test('metrics that hang are given up', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.tell({ reads: hangs });
    await assert.rejects(passing(clock, store.getMetrics()), { code: 'passing' });
  });

  test('a clean-up removes what has expired here, and one that fails degrades nothing', async (t) => {
    const { clock, scripted, store } = await start(t);
    await store.claim(binding({ ttlMs: 1_000 }));
    await clock.advance(1_000);
    scripted.tell({ writes: fails() });
    await assert.rejects(store.cleanup(), { code: 'passing' });
    assert.equal(store.health().state, 'healthy');
    await store.claim(binding({ key: keyOf('other'), ttlMs: 1_000 }));
    await clock.advance(1_000);
    scripted.calls.length = 0;
    await store.cleanup();
    assert.equal(countOf(scripted, 'cleanup'), 0);
    assert.equal(store.health().writeBack.depth, 0);
  });
});

describe('a close', () => {
  test('while degraded tells the store what it can', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.tell({ writes: fails() });
    await Promise.all(keys('k', 1_000).map((key) => store.claim(binding({ key }))));
    scripted.tell({ writes: works });
    await passing(clock, store.close());
    assert.equal((await scripted.held()).size, 1_000);
    assert.equal(scripted.closeCount, 1);
    assert.equal(clock.pendingCount(), 0);
    assert.deepEqual(store.errors, []);
  });

  test('says what it could not tell', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.tell({ writes: fails() });
    await store.claim(binding());
    await passing(clock, store.close());
    assert.equal(store.errors.length, 1);
    assert.match(String(store.errors[0]), /could not flush 1 changes/);
  });

  for (const part of ['opening', 'reads', 'writes', 'closing'] as const) {
    test(`ends within seconds though ${part} hang`, async (t) => {
      const { clock, scripted, store } = await start(t, {
        isRemote: true,
        script: part === 'opening' ? { opening: hangs } : {},
      });
      scripted.tell({ [part]: hangs });
      const writes = keys('k', 10).map((key) => store.claim(binding({ key })));
      const reads = keys('k', 10).map((key) => store.lookup(key));
      await clock.advance(100);
      const startedAt = clock.monotonicMs();
      await passing(clock, Promise.all([store.close(), store.close()]));
      const tookMs = clock.monotonicMs() - startedAt;
      assert.ok(tookMs <= 6_000, `it took ${tookMs} ms`);
      await Promise.all([...writes, ...reads]);
      assert.equal(clock.pendingCount(), 0);
    });
  }

  test('finishes the writes under way, be it by accepting them', async (t) => {
    const { clock, scripted, store } = await start(t, { retryCount: 3, retryDelayMs: 100 });
    scripted.tell({ writes: fails('passing', 20) });
    const claims = keys('k', 20).map((key) => store.claim(binding({ key })));
    await passing(clock, store.close());
    assert.ok((await Promise.all(claims)).every(({ machine }) => machine === A));
    assert.equal((await scripted.held()).size, 20);
  });
});
