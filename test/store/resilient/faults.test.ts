/** The effects of a failing store on the request path: only what cannot be known is unavailable. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SessionKey } from '../../../src/session.ts';
import { StoreError } from '../../../src/store/store.ts';
import { createTestClock } from '../../support/clock.ts';
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
} from '../resilient-world.ts';
import { createScriptedStore, fails, hangs, late, losesResponses, works } from '../scripted.ts';
import { pass, passing, until } from '../wrapped.ts';

/** Longer than the longest backoff of the supervisor. */
const LONG_MS = 11_000;

describe('a write with a transient failure', () => {
  const retries = { retryCount: 3, retryDelayMs: 100 };

  test('is retried after growing pauses, invisibly to the caller', async (t) => {
    const { clock, scripted, store } = await start(t, retries);
    scripted.setBehaviour({ writes: fails('passing', 2) });
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

  test('is not retried more often than that', async (t) => {
    const { clock, scripted, store } = await start(t, { ...retries, retryCount: 2 });
    scripted.setBehaviour({ writes: fails() });
    await passing(clock, store.claim(binding()));
    assert.equal(countOf(scripted, 'claim'), 3);
    assert.equal(store.health().failing, 'writes');
  });

  test('is not retried after its second has passed', async (t) => {
    const { clock, scripted, store } = await start(t, {
      ...{ retryCount: 100, retryDelayMs: 800, random: () => 0.999 },
    });
    scripted.setBehaviour({ writes: fails() });
    const startedAt = clock.monotonicMs();
    await passing(clock, store.claim(binding()));
    assert.ok(clock.monotonicMs() - startedAt <= 1_000);
    assert.equal(countOf(scripted, 'claim'), 2);
    await pass(clock, LONG_MS);
    assert.equal(countOf(scripted, 'claim'), 2);
  });

  test('is not retried in its own time after it was accepted long before', async (t) => {
    const { clock, scripted, store } = await start(t, { retryCount: 3, retryDelayMs: 1_000 });
    scripted.setBehaviour({ writes: fails('passing', 2) });
    const claim = store.claim(binding());
    await passing(clock, claim);
    await until(clock, () => store.health().state === 'healthy');
    assert.ok(clock.monotonicMs() < 1_400);
    await store.delete(KEY, A);
    await pass(clock, LONG_MS);
    assert.equal((await scripted.held()).size, 0);
  });

  test('is not retried while a breaker is open', async (t) => {
    const { clock, scripted, store } = await start(t, { retryCount: 3, retryDelayMs: 400 });
    scripted.setBehaviour({ writes: fails('passing', 1) });
    const waiting = store.claim(binding());
    await clock.advance(0);
    scripted.setBehaviour({ writes: fails('fatal') });
    await store.claim(binding({ key: keyOf('other') }));
    assert.equal(store.health().failing, 'writes');
    await clock.advance(210);
    assert.equal((await waiting).machine, A);
    assert.equal(countOf(scripted, 'claim', KEY), 1);
  });

  for (const code of ['full', 'fatal', 'damaged'] as const) {
    test(`is not retried when a retry cannot help: ${code}`, async (t) => {
      const { clock, scripted, store } = await start(t, retries);
      scripted.setBehaviour({ writes: fails(code) });
      assert.equal((await passing(clock, store.claim(binding()))).machine, A);
      assert.equal(countOf(scripted, 'claim', KEY), 1);
    });
  }

  test('keeps its position before later operations of the same session', async (t) => {
    const { clock, scripted, store } = await start(t, retries);
    scripted.setBehaviour({ writes: fails('passing', 1) });
    const claim = store.claim(binding());
    const removal = store.delete(KEY, A);
    assert.equal(await ownerOf(store), 'absent');
    await passing(clock, Promise.all([claim, removal]));
    assert.equal(await removal, true);
    assert.equal(await ownerOf(store), 'absent');
    assert.equal((await scripted.held()).size, 0);
  });
});

describe('a write accepted while the store fails', () => {
  test('is visible immediately, and is in the store once it recovers, as it was accepted', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    const old = keyOf('old');
    const { createdAt } = await store.upsert(stated({ key: old, generation: 7 }));
    await clock.advance(1_000);
    scripted.setBehaviour({ writes: fails() });
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

  test('is flushed once per key, in the order in which the keys arrived', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    const several = keysOf('k', 300);
    scripted.setBehaviour({ writes: fails() });
    for (const key of several) await store.claim(binding({ key }));
    await clock.advance(1);
    for (const key of several.toReversed()) await store.touch(key, TTL_MS);
    const touchedAt = clock.now();
    scripted.calls.length = 0;
    await recovered(world);
    const flushed = scripted.calls.filter(({ name }) => name === 'upsert').map(({ key }) => key);
    assert.deepEqual(flushed, several);
    assert.equal(store.writtenBack.length, several.length);
    const held = await scripted.held();
    for (const key of several) assert.equal(held.get(key)?.expiresAt, touchedAt + TTL_MS);
  });

  test('may be a touch of a known binding, and of an unknown one', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    const unknown = keyOf('unknown');
    await store.claim(binding());
    await scripted.data.claim(binding({ key: unknown, machine: B }));
    await clock.advance(10_000);
    scripted.setBehaviour({ writes: fails() });
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

  test('is neither lost nor written twice when its response is lost', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    scripted.setBehaviour({ writes: losesResponses() });
    const claimed = await store.claim(binding());
    await store.rebind(KEY, A, B, 'adopted', TTL_MS);
    assert.equal(await ownerOf(store), B);
    await recovered(world);
    const held = (await scripted.held()).get(KEY);
    assert.deepEqual([held?.machine, held?.generation], [B, 2]);
    assert.equal(held?.createdAt, claimed.createdAt);
    assert.deepEqual(store.conflicts, []);
  });

  test('is flushed with exactly its remaining life', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    scripted.setBehaviour({ writes: fails() });
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

describe('a write that ends a session while the store fails', () => {
  test('may be an early expiry that has passed when the store recovers', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    await store.claim(binding());
    scripted.setBehaviour({ writes: fails() });
    assert.equal(await store.expireWithin(KEY, 1_000), true);
    await clock.advance(999);
    assert.equal(await ownerOf(store), A);
    await clock.advance(1);
    assert.equal(await ownerOf(store), 'absent');
    await recovered(world);
    assert.equal((await scripted.held()).has(KEY), false);
    assert.equal(await ownerOf(store), 'absent');
  });

  test('may be an early expiry that is still in the future', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    const unknown = keyOf('unknown');
    await store.claim(binding());
    await scripted.data.claim(binding({ key: unknown, machine: B }));
    scripted.setBehaviour({ writes: fails() });
    await store.expireWithin(KEY, 30_000);
    await store.expireWithin(unknown, 30_000);
    const expiresAt = clock.now() + 30_000;
    await recovered(world);
    const held = await scripted.held();
    assert.equal(held.get(KEY)?.expiresAt, expiresAt);
    assert.equal(held.get(unknown)?.expiresAt, expiresAt);
  });

  test('may be a delete: a deleted binding does not come back', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    const unknown = keyOf('unknown');
    await store.claim(binding());
    await scripted.data.claim(binding({ key: unknown }));
    scripted.setBehaviour({ writes: fails() });
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

  test("may be a delete for one Machine, which leaves another's binding unchanged and visible", async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await scripted.data.claim(binding({ machine: B }));
    scripted.setBehaviour({ writes: fails() });
    await store.delete(KEY, A);
    assert.equal(await ownerOf(store), B);
    scripted.setBehaviour({ reads: fails() });
    for (let count = 0; count < 3; count += 1) assert.equal(await ownerOf(store), 'unknown');
    await recovered(world);
    assert.equal(await ownerOf(store), B);
    assert.equal((await scripted.held()).get(KEY)?.machine, B);
  });

  test('that releases a session and then copies it from its new owner leaves it to the new owner', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await store.claim(binding());
    scripted.setBehaviour({ writes: fails() });
    // As a Machine that loses a conflict does.
    await Promise.all([
      store.delete(KEY, A),
      store.upsert(stated({ machine: B, origin: 'copied' })),
    ]);
    assert.equal(await ownerOf(store), B);
    await recovered(world);
    assert.equal((await scripted.held()).get(KEY)?.machine, B);
    assert.deepEqual(store.conflicts, []);
  });

  test('that moves a session and then deletes it does not restore it for its former owner', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await store.claim(binding());
    scripted.setBehaviour({ writes: fails() });
    await store.rebind(KEY, A, B, 'adopted', TTL_MS);
    assert.equal(await store.delete(KEY, B), true);
    await recovered(world);
    assert.equal((await scripted.held()).size, 0);
  });

  test('that deletes a session and binds it again leaves the age of the second binding', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    await store.upsert(stated({ generation: 5 }));
    await clock.advance(1_000);
    scripted.setBehaviour({ writes: fails() });
    await store.delete(KEY, A);
    const anew = await store.claim(binding({ origin: 'adopted' }));
    assert.equal(anew.createdAt, clock.now());
    await recovered(world);
    assert.deepEqual((await scripted.held()).get(KEY), anew);
  });
});

describe('a write that is still queued while the store recovers', () => {
  test('is flushed although its session is written all the time', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.setBehaviour({ writes: fails() });
    await store.claim(binding());
    scripted.setBehaviour({ writes: late(100) });
    const writes: Promise<unknown>[] = [];
    // Two are called in the time that one takes.
    await until(clock, () => {
      writes.push(store.touch(KEY, TTL_MS));
      return store.health().state === 'healthy';
    });
    await passing(clock, Promise.all(writes));
    assert.ok((await scripted.held()).has(KEY));
  });

  test('does not delay the writes of its session as long as its flush hangs', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.setBehaviour({ writes: fails() });
    await store.claim(binding());
    scripted.setBehaviour({ writes: late(100) });
    await until(clock, () => countOf(scripted, 'upsert', KEY) === 1);
    await store.touch(KEY, TTL_MS + 1);
    await until(clock, () => store.health().state === 'recovering');
    scripted.setBehaviour({ writes: hangs });
    await until(clock, () => countOf(scripted, 'upsert', KEY) === 2);
    const startedAt = clock.now();
    await passing(clock, store.touch(KEY, TTL_MS + 2));
    assert.ok(clock.now() - startedAt < 2_000, 'the write waited longer');
    await until(clock, () => store.health().state === 'degraded');
  });

  test('is updated in the queue, so that changes are flushed in the order of the calls', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    const several = keysOf('k', 1_000);
    scripted.setBehaviour({ writes: fails() });
    for (const key of several) await store.claim(binding({ key }));
    scripted.setBehaviour({ writes: late(1) });
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

describe('a key that was bound elsewhere meanwhile', () => {
  test('keeps that binding: the conflict is counted, reported once, and corrected here', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    scripted.setBehaviour({ reads: fails(), writes: fails() });
    assert.equal((await store.claim(binding())).machine, A);
    await store.touch(KEY, TTL_MS);
    const others = await scripted.data.claim(binding({ machine: B }));
    assert.equal(await ownerOf(store), A);
    await recovered(world);
    assert.equal(await ownerOf(store), B);
    assert.deepEqual((await scripted.held()).get(KEY), others);
    assert.deepEqual(store.writtenBack, ['conflict']);
    assert.deepEqual(store.conflicts, [{ key: KEY, accepted: A, owner: B }]);
    scripted.setBehaviour({ reads: fails() });
    assert.equal(await ownerOf(store), B);
  });

  test('is replaced by a move to this Machine with a higher generation', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await store.upsert(stated({ machine: B }));
    scripted.setBehaviour({ writes: fails() });
    await store.rebind(KEY, B, A, 'adopted', TTL_MS);
    await scripted.data.touch(KEY, 2 * TTL_MS);
    await recovered(world);
    assert.equal((await scripted.held()).get(KEY)?.machine, A);
    assert.deepEqual(store.conflicts, []);
  });

  test('is not deleted by a delete of the binding before it', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await store.claim(binding());
    scripted.setBehaviour({ writes: fails() });
    await store.delete(KEY);
    await scripted.data.rebind(KEY, A, B, 'adopted', TTL_MS);
    await recovered(world);
    assert.equal(await ownerOf(store), B);
  });

  test('is not dropped in favor of a write that is accepted here during the flush', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    scripted.setBehaviour({ writes: fails() });
    await store.claim(binding());
    await scripted.data.claim(binding({ machine: B }));
    scripted.setBehaviour({ writes: hangs });
    await pass(clock, LONG_MS / 2);
    assert.ok(countOf(scripted, 'upsert', KEY) > 0);
    await store.rebind(KEY, A, C, 'adopted', TTL_MS);
    await recovered(world);
    assert.equal((await scripted.held()).get(KEY)?.machine, C);
    assert.equal(await ownerOf(store), C);
  });
});

describe('a breaker', () => {
  test('that is open admits no request, only probes after growing pauses', async (t) => {
    const { clock, scripted, store } = await start(t, { random: () => 1 });
    scripted.setBehaviour({ reads: fails(), writes: fails('fatal') });
    for (const key of keysOf('first', 3)) await store.lookup(key);
    await store.claim(binding());
    assert.equal(store.health().failing, 'all');
    scripted.calls.length = 0;
    const probedAt: number[] = [];
    for (let seconds = 0; seconds < 40; seconds += 0.05) {
      for (const key of keysOf('k', 20)) {
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

  test('adds jitter to its probes', async (t) => {
    const { clock, scripted, store } = await start(t, { random: () => 0 });
    scripted.setBehaviour({ writes: fails() });
    await store.claim(binding());
    await clock.advance(249);
    assert.equal(countOf(scripted, 'upsert'), 0);
    await clock.advance(2);
    assert.equal(countOf(scripted, 'upsert'), 1);
  });

  test('does not stay open longer because of writes that were in progress when it opened', async (t) => {
    const { clock, scripted, store } = await start(t, { random: () => 1 });
    scripted.setBehaviour({ writes: hangs });
    const writes: Promise<unknown>[] = [];
    for (const key of keysOf('k', 20)) {
      writes.push(store.claim(binding({ key })));
      await clock.advance(45);
    }
    await clock.advance(2_000);
    await Promise.all(writes);
    const [degraded] = store.reported;
    assert.equal(degraded?.state, 'degraded');
    scripted.setBehaviour({ writes: works });
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
    scripted.setBehaviour({ writes: fails('passing', 1) });
    await store.claim(binding());
    await until(clock, () => store.health().state === 'healthy');
    await passing(clock, claim);
    await until(clock, () => store.health().state === 'healthy');
    assert.equal(store.reported.filter(({ state }) => state === 'degraded').length, 1);
    assert.equal((await scripted.held()).size, 2);
  });
});

describe('two independent breakers: the breaker', () => {
  test('of the writes does not affect reads', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await scripted.data.claim(binding({ machine: B }));
    scripted.setBehaviour({ writes: fails() });
    await store.claim(binding({ key: keyOf('other') }));
    assert.equal(store.health().failing, 'writes');
    assert.equal(await ownerOf(store), B);
    assert.equal(await ownerOf(store, keyOf('third')), 'absent');
    await scripted.data.delete(KEY);
    assert.equal(await ownerOf(store), 'absent');
  });

  test('of the reads opens at the third consecutive failure, and does not affect writes', async (t) => {
    const { scripted, store } = await start(t);
    scripted.setBehaviour({ reads: fails('passing', 2) });
    assert.equal(await ownerOf(store), 'unknown');
    assert.equal(await ownerOf(store), 'unknown');
    assert.equal(await ownerOf(store), 'absent');
    scripted.setBehaviour({ reads: fails() });
    for (let count = 0; count < 10; count += 1) assert.equal(await ownerOf(store), 'unknown');
    assert.equal(countOf(scripted, 'lookup'), 6);
    assert.equal(store.health().failing, 'reads');
    await store.claim(binding());
    assert.equal(countOf(scripted, 'claim'), 1);
    assert.equal((await scripted.held()).size, 1);
    assert.equal(await ownerOf(store), A);
  });

  test('of the reads is probed on its own schedule, however long that of the writes is open', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.setBehaviour({ writes: fails() });
    await store.claim(binding());
    await clock.advance(30_000);
    const probes = countOf(scripted, 'upsert');
    await until(clock, () => countOf(scripted, 'upsert') > probes);
    scripted.setBehaviour({ reads: fails('passing', 3) });
    for (let count = 0; count < 3; count += 1) await store.lookup(keyOf('other'));
    assert.equal(store.health().failing, 'all');
    await clock.advance(500);
    assert.equal(store.health().failing, 'writes');
  });
});

describe('a breaker that changes its state', () => {
  test('reports each change, and not each request', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    scripted.setBehaviour({ reads: fails(), writes: fails() });
    for (const key of keysOf('k', 500)) {
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

  test('reports its cause, its age and the number of pending changes', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.setBehaviour({ reads: fails(), writes: fails('full') });
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

describe('a write that exceeds its second', () => {
  for (const [comes, ending] of [
    ['a late success', works],
    ['a late failure', fails('passing', 1)],
    ['a late failure though it was done', losesResponses(1)],
  ] as const) {
    test(`is accepted here, and ${comes} does no harm`, async (t) => {
      const world = await start(t);
      const { clock, scripted, store } = world;
      scripted.setBehaviour({ writes: hangs });
      const claim = store.claim(binding());
      await clock.advance(1_000);
      const claimed = await claim;
      assert.deepEqual(await store.lookup(KEY), claimed);
      await store.rebind(KEY, A, B, 'adopted', TTL_MS);
      await clock.advance(100);
      scripted.setBehaviour({ writes: ending });
      await recovered(world);
      const held = (await scripted.held()).get(KEY);
      assert.deepEqual([held?.machine, held?.generation], [B, 2]);
      assert.equal(await ownerOf(store), B);
    });
  }

  test('does not restore its session when it completes after the session was deleted', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    scripted.setBehaviour({ writes: hangs });
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

  test('delays neither its caller, nor other sessions, nor a lookup', async (t) => {
    const { clock, scripted, store } = await start(t, { isRemote: true });
    scripted.setBehaviour({ reads: hangs, writes: hangs });
    const claims = Promise.all(keysOf('k', 50).map((key) => store.claim(binding({ key }))));
    const lookups = Promise.all(keysOf('other', 50).map(async (key) => store.lookup(key)));
    await clock.advance(1_000);
    assert.ok((await claims).every(({ machine }) => machine === A));
    assert.ok((await lookups).every((found) => found === 'unknown'));
    assert.equal(store.health().failing, 'all');
    assert.equal((await store.claim(binding())).machine, A);
    assert.equal(await ownerOf(store), A);
  });

  test('degrades the store only while it is slow', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.setBehaviour({ writes: late(1_500) });
    const claim = store.claim(binding());
    await clock.advance(1);
    scripted.setBehaviour({ writes: works });
    await clock.advance(1_000);
    await claim;
    await clock.advance(1_500);
    assert.equal(store.health().state, 'healthy');
    assert.deepEqual(store.writtenBack, ['written']);
  });
});

describe('a key that the local copy does not hold', () => {
  test('is unknown, and absent only after a full TTL without the store', async (t) => {
    const { clock, scripted, store } = await start(t);
    await scripted.data.claim(binding());
    scripted.setBehaviour({ reads: fails() });
    for (let count = 0; count < 3; count += 1) assert.equal(await ownerOf(store), 'unknown');
    await clock.advance(TTL_MS - 1);
    assert.equal(await ownerOf(store), 'unknown');
    await clock.advance(1);
    assert.equal(await ownerOf(store), 'absent');
  });

  test('is never absent where other Machines may have bound it', async (t) => {
    const { clock, scripted, store } = await start(t, { isShared: true, isRemote: true });
    scripted.setBehaviour({ reads: fails() });
    for (let count = 0; count < 3; count += 1) assert.equal(await ownerOf(store), 'unknown');
    await clock.advance(2 * TTL_MS);
    await scripted.data.claim(binding({ machine: B }));
    assert.equal(await ownerOf(store), 'unknown');
  });

  test('is looked up in the store again once the store recovers', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    await scripted.data.claim(binding());
    scripted.setBehaviour({ reads: fails() });
    for (let count = 0; count < 3; count += 1) await store.lookup(KEY);
    await clock.advance(5_000);
    await recovered(world);
    assert.equal(await ownerOf(store), A);
  });

  test('the local copy holds the last value read or written', async (t) => {
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
    scripted.setBehaviour({ reads: fails() });
    for (let count = 0; count < 3; count += 1) await store.lookup(KEY);
    assert.equal(await ownerOf(store), A);
    assert.equal(await ownerOf(store, read), B);
    assert.equal(await ownerOf(store, removed), 'unknown');
    assert.equal(await ownerOf(store, goneElsewhere), 'unknown');
  });

  test('a lookup that a delete overtakes is not cached', async (t) => {
    const { clock, scripted, store } = await start(t, { isRemote: true });
    await scripted.data.claim(binding());
    scripted.setBehaviour({ reads: late(100) });
    const lookup = store.lookup(KEY);
    // The response is already on its way.
    await clock.advance(50);
    const deleted = await passing(clock, store.delete(KEY, A));
    assert.equal(deleted, true);
    await scripted.data.claim(binding());
    await clock.advance(100);
    assert.equal(typeof (await lookup), 'object');
    scripted.setBehaviour({ reads: fails() });
    for (let count = 0; count < 3; count += 1) assert.equal(await ownerOf(store), 'unknown');
  });
});

describe('opening', () => {
  test('retries a store that cannot be opened, and flushes all changes to it later', async (t) => {
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

  test('waits five seconds at most at the start for a store that hangs, and uses it once it opens', async (t) => {
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

  test('closes a store that opens after everything was closed', async (t) => {
    const { clock, scripted, store } = await start(t, { script: { opening: hangs } });
    await passing(clock, store.close());
    scripted.setBehaviour({ opening: works });
    await until(clock, () => scripted.closeCount === 1);
  });
});

describe('damage', () => {
  test('is repaired: the store is closed, opened again and filled from memory', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    const several = keysOf('k', 1_000);
    await Promise.all(several.map((key) => store.claim(binding({ key }))));
    const before = await store.lookup(several[7] ?? KEY);
    scripted.lose();
    scripted.setBehaviour({ writes: fails('damaged', 1) });
    await store.claim(binding());
    await recovered(world);
    assert.equal(scripted.openCount, 2);
    assert.equal(scripted.closeCount, 1);
    const held = await scripted.held();
    assert.equal(held.size, 1_001);
    assert.deepEqual(held.get(several[7] ?? KEY), before);
  });

  test('that only a hook reports is repaired too, immediately', async (t) => {
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

  test('that recurs is repaired at growing intervals', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.setBehaviour({ writes: fails('damaged') });
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

  test('is repaired although a close hangs', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await store.claim(binding());
    scripted.setBehaviour({ closing: hangs });
    scripted.hooks.onError(new StoreError('damaged', 'scripted'));
    await recovered(world);
    assert.equal(scripted.openCount, 2);
  });

  test('is repaired by opening the store again when the store reports that it is closed', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    scripted.setBehaviour({ writes: fails('closed', 1) });
    assert.equal((await store.claim(binding())).machine, A);
    await recovered(world);
    assert.equal(scripted.openCount, 2);
    assert.equal((await scripted.held()).size, 1);
  });

  test('does not restore a session that is deleted while the store is filled', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    const several = keysOf('k', 3_000);
    await Promise.all(several.map((key) => store.claim(binding({ key }))));
    scripted.lose();
    scripted.setBehaviour({ writes: late(1) });
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

describe('damage in an abandoned store', () => {
  test('reported late by an abandoned store does not count as damage of the new one', async (t) => {
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
    // It is reported all the same: for example where a damaged file was quarantined.
    assert.equal(store.errors.length, 2);
  });

  test('that a write finds in an abandoned store does not count as damage of the new one', async (t) => {
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

  test('reported by a write in progress in an abandoned store does not affect the new one', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    scripted.setBehaviour({ writes: hangs });
    const claim = store.claim(binding());
    await clock.advance(1);
    scripted.hooks.onError(new StoreError('damaged', 'scripted'));
    scripted.setBehaviour({ closing: works });
    await passing(clock, claim);
    await recovered(world);
    assert.equal(scripted.openCount, 2);
    assert.deepEqual([...(await scripted.held()).keys()], [KEY]);
  });
});

describe('a full store', () => {
  test('is cleaned up before the write is retried', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    scripted.setBehaviour({ writes: fails('full') });
    await store.claim(binding());
    await clock.advance(600);
    const names = scripted.calls.map(({ name }) => name);
    assert.deepEqual(names, ['claim', 'cleanup', 'claim']);
    await recovered(world);
    assert.equal((await scripted.held()).get(KEY)?.machine, A);
  });
});

describe('a binding that the store rejects permanently', () => {
  /** For example a key with another type of value. */
  const rejected = keyOf('refused');
  const rejecting = ({ scripted }: World): void => {
    const upsert = scripted.data.upsert.bind(scripted.data);
    const reject = (key: SessionKey): boolean => key === rejected;
    Object.assign(scripted.data, {
      upsert: (one: Parameters<typeof upsert>[0]) =>
        reject(one.key) ? Promise.reject(new StoreError('fatal', 'refused')) : upsert(one),
    });
  };

  test('blocks no other write, and is dropped', async (t) => {
    const world = await start(t);
    const { clock, scripted, store } = world;
    rejecting(world);
    scripted.setBehaviour({ writes: fails() });
    for (const key of [rejected, ...keysOf('k', 3)]) await store.claim(binding({ key }));
    await clock.advance(100);
    await recovered(world);
    assert.equal((await scripted.held()).size, 3);
    assert.equal(store.errors.length, 1);
    assert.deepEqual(store.writtenBack.toSorted(), ['dropped', 'written', 'written', 'written']);
  });
});

describe('the queue', () => {
  const limits = { maxSessions: 100, maxAgeMs: 0 };

  test('is bounded: the oldest of the least valuable changes are dropped and counted', async (t) => {
    const world = await start(t, { limits });
    const { scripted, store } = world;
    scripted.setBehaviour({ writes: fails() });
    const claims = (prefix: string, count: number, origin: 'learned' | 'adopted') =>
      Promise.all(keysOf(prefix, count).map((key) => store.claim(binding({ key, origin }))));
    await claims('learned', 90, 'learned');
    await claims('adopted', 1_000, 'adopted');
    const { depth } = store.health().writeBack;
    assert.ok(depth >= 100 && depth <= 101, `${depth} wait`);
    assert.equal(store.writtenBack.length, 1_090 - depth);
    assert.ok(store.writtenBack.every((result) => result === 'dropped'));
    await recovered(world);
    const held = await scripted.held();
    for (const key of keysOf('learned', 90)) assert.ok(held.has(key));
    assert.ok(held.has(keyOf('adopted-999')));
  });

  test('drops expired changes, which do not count as lost', async (t) => {
    const world = await start(t, { limits });
    const { clock, scripted, store } = world;
    scripted.setBehaviour({ writes: fails() });
    for (let round = 0; round < 5; round += 1) {
      for (const key of keysOf(`round-${round}`, 50))
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
  test('a listing contains the known bindings, as they were accepted', async (t) => {
    const { scripted, store } = await start(t);
    await Promise.all(keysOf('k', 10).map((key) => store.claim(binding({ key }))));
    await scripted.data.claim(binding({ key: keyOf('unknown'), machine: B }));
    scripted.setBehaviour({ writes: fails() });
    await store.delete(keyOf('k-0'), A);
    await store.rebind(keyOf('k-1'), A, B, 'adopted', TTL_MS);
    await store.claim(binding());
    const list = async (): Promise<string[]> => {
      const found: string[] = [];
      for await (const { key, machine } of store.entries()) found.push(`${key} ${machine}`);
      return found.sort();
    };
    const expected = [
      ...keysOf('k', 10)
        .slice(2)
        .map((key) => `${key} ${A}`),
      ...[`${keyOf('k-1')} ${B}`, `${KEY} ${A}`],
    ];
    assert.deepEqual(await list(), [...expected, `${keyOf('unknown')} ${B}`].sort());
    scripted.setBehaviour({ reads: fails() });
    for (let count = 0; count < 3; count += 1) await store.lookup(keyOf('other'));
    assert.deepEqual(await list(), expected.sort());
  });

  test('the metrics keep counting, and never decrease', async (t) => {
    const world = await start(t);
    const { scripted, store } = world;
    await Promise.all(keysOf('k', 10).map((key) => store.claim(binding({ key }))));
    assert.equal((await store.getMetrics()).upserts, 10);
    scripted.setBehaviour({ reads: fails(), writes: fails() });
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

  test('a cleanup that hangs times out', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.setBehaviour({ writes: hangs });
    const abandoned = assert.rejects(store.cleanup(), { code: 'passing' });
    for (let minute = 0; minute <= 5; minute += 1) await clock.advance(60_000);
    await abandoned;
  });

  test('metrics that hang time out', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.setBehaviour({ reads: hangs });
    await assert.rejects(passing(clock, store.getMetrics()), { code: 'passing' });
  });

  test('a cleanup removes expired bindings here, and a failed one does not degrade the store', async (t) => {
    const { clock, scripted, store } = await start(t);
    await store.claim(binding({ ttlMs: 1_000 }));
    await clock.advance(1_000);
    scripted.setBehaviour({ writes: fails() });
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
  test('flushes what it can while degraded', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.setBehaviour({ writes: fails() });
    await Promise.all(keysOf('k', 1_000).map((key) => store.claim(binding({ key }))));
    scripted.setBehaviour({ writes: works });
    await passing(clock, store.close());
    assert.equal((await scripted.held()).size, 1_000);
    assert.equal(scripted.closeCount, 1);
    assert.equal(clock.pendingCount(), 0);
    assert.deepEqual(store.errors, []);
  });

  test('reports what it could not flush', async (t) => {
    const { clock, scripted, store } = await start(t);
    scripted.setBehaviour({ writes: fails() });
    await store.claim(binding());
    await passing(clock, store.close());
    assert.equal(store.errors.length, 1);
    assert.match(String(store.errors[0]), /could not flush 1 changes/);
  });

  for (const part of ['opening', 'reads', 'writes', 'closing'] as const) {
    test(`ends within seconds although ${part} hang`, async (t) => {
      const { clock, scripted, store } = await start(t, {
        isRemote: true,
        script: part === 'opening' ? { opening: hangs } : {},
      });
      scripted.setBehaviour({ [part]: hangs });
      const writes = keysOf('k', 10).map((key) => store.claim(binding({ key })));
      const reads = keysOf('k', 10).map((key) => store.lookup(key));
      await clock.advance(100);
      const startedAt = clock.monotonicMs();
      await passing(clock, Promise.all([store.close(), store.close()]));
      const tookMs = clock.monotonicMs() - startedAt;
      assert.ok(tookMs <= 6_000, `it took ${tookMs} ms`);
      await Promise.all([...writes, ...reads]);
      assert.equal(clock.pendingCount(), 0);
    });
  }

  test('completes the writes in progress, if necessary by accepting them', async (t) => {
    const { clock, scripted, store } = await start(t, { retryCount: 3, retryDelayMs: 100 });
    scripted.setBehaviour({ writes: fails('passing', 20) });
    const claims = keysOf('k', 20).map((key) => store.claim(binding({ key })));
    await passing(clock, store.close());
    assert.ok((await Promise.all(claims)).every(({ machine }) => machine === A));
    assert.equal((await scripted.held()).size, 20);
  });
});
