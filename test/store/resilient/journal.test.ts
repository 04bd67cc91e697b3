/** Pending changes for a shared database survive a restart of the sidecar. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { systemClock, type Clock } from '../../../src/clock.ts';
import { createTestClock, type TestClock } from '../../support/clock.ts';
import { keyOf, keysOf } from '../../support/ids.ts';
import { createPlace } from '../place.ts';
import {
  A,
  B,
  binding,
  KEY,
  ownerOf,
  recovered,
  start,
  stated,
  TTL_MS,
  type World,
  type WorldOptions,
} from '../resilient-world.ts';
import {
  createScriptedStore,
  fails,
  hangs,
  losesResponses,
  works,
  type ScriptedStore,
} from '../scripted.ts';
import { openWrapped, passing } from '../wrapped.ts';

interface Machine {
  readonly clock: TestClock;
  readonly database: ScriptedStore;
  /** Survives the sidecar, as its file does. */
  readonly journal: ScriptedStore;
  /** Starts the sidecar, the first time or again: only the journal remains of the previous one. */
  run(options?: WorldOptions): Promise<World>;
}

function createMachine(t: TestContext): Machine {
  const clock = createTestClock();
  const database = createScriptedStore({ clock });
  const journal = createScriptedStore({ clock });
  const hooks = { onError: () => undefined, onDisrupted: () => undefined };
  return {
    clock,
    database,
    journal,
    run: (options) =>
      start(t, {
        ...{ clock, beside: database, isShared: true, isRemote: true },
        openJournal: () => journal.open(hooks),
        ...options,
      }),
  };
}

/** Ends it without a chance to flush anything. */
async function crash({ scripted, store, clock }: World): Promise<void> {
  scripted.setBehaviour({ reads: fails(), writes: fails() });
  await passing(clock, store.close());
}

describe('a write accepted while the database is down', () => {
  test('survives a restart, and is written once the database is back', async (t) => {
    const machine = createMachine(t);
    const first = await machine.run({ script: { reads: fails(), writes: fails() } });
    const claimed = await first.store.claim(binding());
    const adopted = await first.store.upsert(
      stated({ key: keyOf('other'), generation: 3, origin: 'adopted' }),
    );
    assert.equal(first.store.health().writeBack.isDurable, true);
    await crash(first);

    const second = await machine.run({ script: { opening: fails() } });
    assert.equal(second.store.health().writeBack.depth, 2);
    assert.deepEqual(await second.store.lookup(KEY), claimed);
    await recovered(second);
    const held = await machine.database.held();
    assert.deepEqual(held.get(KEY), claimed);
    assert.deepEqual(held.get(keyOf('other')), adopted);
    assert.equal((await machine.journal.held()).size, 0);
    await passing(machine.clock, second.store.close());

    const third = await machine.run();
    assert.equal(third.store.health().writeBack.depth, 0);
  });

  test('and deleted again is not restored', async (t) => {
    const machine = createMachine(t);
    await machine.database.data.claim(binding({ key: keyOf('old') }));
    const first = await machine.run();
    assert.equal(await ownerOf(first.store, keyOf('old')), A);
    first.scripted.setBehaviour({ reads: fails(), writes: fails() });
    await first.store.claim(binding());
    await first.store.delete(KEY, A);
    await first.store.delete(keyOf('old'), A);
    await crash(first);

    const second = await machine.run({ script: { opening: fails() } });
    assert.equal(await ownerOf(second.store), 'absent');
    assert.equal(await ownerOf(second.store, keyOf('old')), 'absent');
    await recovered(second);
    assert.equal((await machine.database.held()).size, 0);
    assert.equal((await machine.journal.held()).size, 0);
  });

  test('and moved away is not restored with its former owner', async (t) => {
    const machine = createMachine(t);
    const first = await machine.run({ script: { reads: fails(), writes: fails() } });
    await first.store.claim(binding());
    await first.store.rebind(KEY, A, B, 'adopted', TTL_MS);
    await crash(first);
    const second = await machine.run();
    assert.equal(second.store.health().writeBack.depth, 0);
    assert.equal((await machine.database.held()).size, 0);
  });

  test('is restored in its last state, with its last expiry', async (t) => {
    const machine = createMachine(t);
    const first = await machine.run({ script: { reads: fails(), writes: fails() } });
    await first.store.upsert(stated({ generation: 9 }));
    await first.store.delete(KEY, A);
    await machine.clock.advance(1_000);
    await first.store.claim(binding());
    await machine.clock.advance(1_000);
    await first.store.touch(KEY, TTL_MS);
    await first.store.expireWithin(KEY, 30_000);
    const before = await first.store.lookup(KEY);
    await crash(first);
    const second = await machine.run();
    await recovered(second);
    assert.deepEqual((await machine.database.held()).get(KEY), before);
  });

  test('is replaced by a binding made elsewhere meanwhile', async (t) => {
    const machine = createMachine(t);
    const first = await machine.run({ script: { reads: fails(), writes: fails() } });
    await first.store.claim(binding());
    await crash(first);
    await machine.database.data.claim(binding({ machine: B }));
    const second = await machine.run();
    await recovered(second);
    assert.equal(await ownerOf(second.store), B);
    assert.equal(second.store.conflicts.length, 1);
  });

  test('is dropped when it expires before the restart', async (t) => {
    const machine = createMachine(t);
    const first = await machine.run({ script: { reads: fails(), writes: fails() } });
    await first.store.claim(binding());
    await crash(first);
    await machine.clock.advance(TTL_MS);
    const second = await machine.run();
    assert.equal(second.store.health().writeBack.depth, 0);
  });
});

describe('the journal', () => {
  test('is not written while the database works', async (t) => {
    const machine = createMachine(t);
    const { store } = await machine.run();
    for (const key of keysOf('k', 20)) await store.claim(binding({ key }));
    assert.deepEqual(machine.journal.calls, []);
  });

  test('restores nothing of another Machine, and no copies', async (t) => {
    const machine = createMachine(t);
    const { data } = machine.journal;
    await data.claim(binding({ key: keyOf('b'), machine: B }));
    await data.upsert(stated({ key: keyOf('copy'), machine: B, origin: 'copied' }));
    await data.claim(binding());
    const { store } = await machine.run({ script: { opening: fails() } });
    assert.equal(store.health().writeBack.depth, 1);
    assert.equal(await ownerOf(store, keyOf('b')), 'unknown');
    assert.equal(await ownerOf(store), A);
  });

  test('uses its own file next to a file that was the store itself', async (t) => {
    const machine = createMachine(t);
    await machine.journal.data.upsert(stated({ machine: B, generation: 7 }));
    const first = await machine.run({ script: { reads: fails(), writes: fails() } });
    const claimed = await first.store.claim(binding());
    assert.deepEqual((await machine.journal.held()).get(KEY), claimed);
    await crash(first);
    const second = await machine.run({ script: { opening: fails() } });
    assert.deepEqual(await second.store.lookup(KEY), claimed);
    await recovered(second);
  });

  test('holds no more than the queue does', async (t) => {
    const machine = createMachine(t);
    const limits = { maxSessions: 50, maxAgeMs: 0 };
    for (const key of keysOf('k', 200)) await machine.journal.data.claim(binding({ key }));
    const { store } = await machine.run({ limits, script: { opening: fails() } });
    assert.equal(store.health().writeBack.depth, 50);
    assert.deepEqual(store.writtenBack, []);
    assert.equal((await machine.journal.held()).size, 200);
  });
});

describe('a journal that fails', () => {
  test('reports a failure once, and the failure has no other effect', async (t) => {
    const machine = createMachine(t);
    const { store } = await machine.run({ script: { reads: fails(), writes: fails() } });
    await store.claim(binding());
    machine.journal.setBehaviour({ writes: fails('full') });
    for (const key of keysOf('k', 200))
      assert.equal((await store.claim(binding({ key }))).machine, A);
    await machine.clock.advance(60_000);
    for (const key of keysOf('more', 200)) await store.claim(binding({ key }));
    assert.equal(store.errors.length, 1);
    assert.equal(store.health().writeBack.isDurable, false);
    assert.ok(machine.journal.calls.length < 10, 'it is not tried with every write');
  });

  test('is used again once it works again', async (t) => {
    const machine = createMachine(t);
    const { clock } = machine;
    const { store } = await machine.run({ script: { reads: fails(), writes: fails() } });
    machine.journal.setBehaviour({ writes: fails('passing') });
    await store.claim(binding());
    machine.journal.setBehaviour({ writes: works });
    await clock.advance(2_000);
    await store.claim(binding({ key: keyOf('other') }));
    assert.equal(store.health().writeBack.isDurable, true);
    assert.deepEqual([...(await machine.journal.held()).keys()], [keyOf('other')]);
  });

  test('delays no caller for long when it hangs', async (t) => {
    const machine = createMachine(t);
    const { clock } = machine;
    const { store } = await machine.run({ script: { reads: fails(), writes: fails() } });
    machine.journal.setBehaviour({ writes: hangs });
    const startedAt = clock.monotonicMs();
    await passing(clock, store.claim(binding()));
    assert.ok(clock.monotonicMs() - startedAt <= 550);
    await store.claim(binding({ key: keyOf('other') }));
    assert.equal(await ownerOf(store), A);
    machine.journal.setBehaviour({ closing: hangs });
    await passing(clock, store.close());
  });

  test('reports that it cannot be opened, and the store starts without it', async (t) => {
    const machine = createMachine(t);
    machine.journal.setBehaviour({ opening: fails('fatal') });
    const { store } = await machine.run();
    assert.equal(store.errors.length, 1);
    assert.equal(store.health().state, 'healthy');
    assert.equal(store.health().writeBack.isDurable, false);
  });

  test('delays the start no longer than the database may, when its open hangs', async (t) => {
    const machine = createMachine(t);
    machine.journal.setBehaviour({ opening: hangs });
    const { store } = await machine.run();
    assert.ok(machine.clock.monotonicMs() <= 5_100);
    assert.equal((await store.claim(binding())).machine, A);
  });

  test('removes flushed changes in the end, although they could not be erased at first', async (t) => {
    const machine = createMachine(t);
    const { clock, journal } = machine;
    const world = await machine.run({ script: { reads: fails(), writes: fails() } });
    await world.store.claim(binding());
    journal.setBehaviour({ writes: fails() });
    await recovered(world);
    assert.equal((await journal.held()).size, 1);
    journal.setBehaviour({ writes: works });
    await clock.advance(2_000);
    await world.store.cleanup();
    assert.equal((await journal.held()).size, 0);
  });

  test('is correct although its responses are lost', async (t) => {
    const machine = createMachine(t);
    const first = await machine.run({ script: { reads: fails(), writes: fails() } });
    machine.journal.setBehaviour({ writes: losesResponses(1) });
    await first.store.claim(binding());
    machine.journal.setBehaviour({ writes: works });
    await machine.clock.advance(2_000);
    await first.store.delete(KEY, A);
    await crash(first);
    const second = await machine.run();
    assert.equal(await ownerOf(second.store), 'absent');
  });
});

test('the journal in a real file survives a real restart', async (t) => {
  let now = Date.now();
  // A busy computer may exceed the journal's time limit.
  const clockWithoutTimeouts: Clock = {
    ...systemClock,
    now: () => now,
    after: (ms, fn) => systemClock.after(20 * ms, fn),
  };
  const place = await createPlace(t);
  const database = createScriptedStore({ clock: clockWithoutTimeouts });
  const open = () => {
    const scripted = createScriptedStore({
      clock: clockWithoutTimeouts,
      beside: database,
      isRemote: true,
    });
    const limits = { maxSessions: 1_000, maxAgeMs: 0 };
    const opening = openWrapped(
      t,
      { clock: clockWithoutTimeouts, limits },
      {
        self: A,
        isShared: true,
        kind: 'redis',
        open: scripted.open,
        openJournal: () => place.open({ clock: clockWithoutTimeouts }),
      },
    );
    return { scripted, opening };
  };
  const first = open();
  first.scripted.setBehaviour({ reads: fails(), writes: fails() });
  const store = await first.opening;
  const claims = await Promise.all(keysOf('k', 50).map((key) => store.claim(binding({ key }))));
  await Promise.all(keysOf('k', 10).map((key) => store.delete(key, A)));
  await store.close();
  assert.equal((await database.held()).size, 0);

  now += 10_000;
  const second = open();
  const again = await second.opening;
  const deadline = performance.now() + 10_000;
  while (again.health().state !== 'healthy' && performance.now() < deadline) await pause(10);
  const held = await database.held();
  assert.equal(held.size, 40);
  for (const claimed of claims.slice(10)) {
    const found = held.get(claimed.key);
    assert.equal(found?.createdAt, claimed.createdAt);
    // The remaining life is counted from the time of the write.
    assert.equal(found.expiresAt, claimed.expiresAt);
  }
  await again.close();
  const left = await place.open();
  const rows: unknown[] = [];
  for await (const row of left.entries()) rows.push(row);
  assert.deepEqual(rows, []);
});
