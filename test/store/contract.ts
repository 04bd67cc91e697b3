/** The contract of `SessionStore` as tests, written once and run against every adapter. */
import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, test, type TestContext } from 'node:test';
import type { BindingOrigin, MachineId } from '../../src/session.ts';
import type { Clock } from '../../src/clock.ts';
import type { SessionStore, StatedBinding, StoreLimits } from '../../src/store/store.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf, keysOf, machineId } from '../support/ids.ts';
import { listOf } from './every-operation.ts';
import { ownerIn } from './claims.ts';

export interface OpenOptions {
  readonly clock: Clock;
  readonly limits: StoreLimits;
  /** Stores opened at one place hold the same bindings, if the adapter supports sharing. */
  readonly place: string;
}

/** Opens a store that is closed after the test. */
export type OpenStore = (t: TestContext, options: OpenOptions) => Promise<SessionStore>;

export interface Capabilities {
  /**
   * Two stores opened at one place hold the same bindings, and so does one that is opened later.
   */
  readonly canShare: boolean;
}

const A = machineId('a1');
const B = machineId('b2');
const C = machineId('c3');
const TTL_MS = 60_000;
const MAX_STALENESS_MS = 1_000;
const KEY = keyOf('session');

export function storeContract(name: string, open: OpenStore, capabilities: Capabilities): void {
  describe(`the ${name} store`, () => {
    describe('claims', () => claimContract(open));
    describe('upserts', () => upsertContract(open));
    describe('rebinds', () => rebindContract(open));
    describe('extends and expires', () => lifeContract(open));
    describe('preserves order', () => orderContract(open));
    describe('is bounded', () => boundsContract(open));
    describe('reports', () => reportingContract(open));
    describe('closes', () => closingContract(open));
    if (capabilities.canShare) describe('shares', () => sharingContract(open));
  });
}

/** A separate store with its own clock. */
async function start(
  t: TestContext,
  open: OpenStore,
  limits: Partial<StoreLimits> = {},
): Promise<{ store: SessionStore; clock: TestClock }> {
  const clock = createTestClock();
  const store = await open(t, {
    clock,
    limits: { maxSessions: 1_000_000, maxAgeMs: 0, ...limits },
    place: 'own',
  });
  return { store, clock };
}

function binding(machine: MachineId, changes: Partial<StatedBinding> = {}): StatedBinding {
  return { key: KEY, machine, origin: 'learned', generation: 1, ttlMs: TTL_MS, ...changes };
}

function claimContract(open: OpenStore): void {
  test('a key without a claim is absent', async (t) => {
    const { store } = await start(t, open);
    assert.equal(await store.lookup(KEY), 'absent');
  });

  test('a claim binds a free key to its claimant', async (t) => {
    const { store, clock } = await start(t, open);
    const claimed = await store.claim(binding(A));
    assert.deepEqual(claimed, {
      key: KEY,
      machine: A,
      origin: 'learned',
      generation: 1,
      createdAt: clock.now(),
      expiresAt: clock.now() + TTL_MS,
    });
    assert.deepEqual(await store.lookup(KEY), claimed);
  });

  test('a claim of a bound key returns the earlier owner and changes nothing', async (t) => {
    const { store, clock } = await start(t, open);
    const first = await store.claim(binding(A, { origin: 'adopted' }));
    await clock.advance(1_000);
    assert.deepEqual(await store.claim(binding(B)), first);
    assert.deepEqual(await store.lookup(KEY), first);
  });

  test('of simultaneous claims by several Machines the first called wins', async (t) => {
    const { store } = await start(t, open);
    const winners = await Promise.all(
      [B, A, C, A, B].map((machine) => store.claim(binding(machine))),
    );
    assert.deepEqual(
      winners.map(({ machine }) => machine),
      [B, B, B, B, B],
    );
    assert.equal(await ownerIn(store, KEY), B);
  });

  test('a repeated claim by the owner extends the binding and never shortens it', async (t) => {
    const { store, clock } = await start(t, open);
    const first = await store.claim(binding(A));
    await clock.advance(1_000);
    const shorter = await store.claim(binding(A, { ttlMs: 10 }));
    assert.deepEqual(shorter, first);
    const longer = await store.claim(binding(A));
    assert.deepEqual(longer, { ...first, expiresAt: first.expiresAt + 1_000 });
  });

  const origins: [had: BindingOrigin, claimed: BindingOrigin, has: BindingOrigin][] = [
    ['copied', 'adopted', 'adopted'],
    ['copied', 'learned', 'learned'],
    ['adopted', 'copied', 'adopted'],
    ['adopted', 'learned', 'learned'],
    ['learned', 'copied', 'learned'],
    ['learned', 'adopted', 'learned'],
  ];
  for (const [had, claimed, has] of origins) {
    test(`a ${had} binding that its owner claims as ${claimed} is ${has}`, async (t) => {
      const { store } = await start(t, open);
      await store.upsert(binding(A, { origin: had }));
      await store.claim(binding(A, { origin: claimed }));
      await store.claim(binding(B, { origin: 'learned' }));
      const found = await store.lookup(KEY);
      assert.equal(typeof found === 'string' ? found : found.origin, has);
    });
  }

  test('an expired binding can be claimed as if it had never existed', async (t) => {
    const { store, clock } = await start(t, open);
    await store.upsert(binding(A, { generation: 7 }));
    await clock.advance(TTL_MS);
    const claimed = await store.claim(binding(B, { origin: 'adopted' }));
    assert.equal(claimed.machine, B);
    assert.equal(claimed.generation, 1);
    assert.equal(claimed.origin, 'adopted');
    assert.equal(claimed.createdAt, clock.now());
  });

  for (const ttlMs of [0, -5, Number.NaN, 1e300, Number.POSITIVE_INFINITY, 0.5]) {
    test(`a TTL of ${ttlMs} is harmless`, async (t) => {
      const { store } = await start(t, open);
      const claimed = await store.claim(binding(A, { ttlMs }));
      assert.ok(Number.isSafeInteger(claimed.expiresAt));
      assert.equal(await ownerIn(store, KEY), ttlMs >= 1 ? A : 'absent');
    });
  }
}

function upsertContract(open: OpenStore): void {
  type Stated = Partial<StatedBinding> & { machine: MachineId };
  const cases: [claim: string, had: Stated, stated: Stated, stays: boolean][] = [
    [
      'a higher generation is kept',
      { machine: A, generation: 3 },
      { machine: B, generation: 2 },
      true,
    ],
    [
      'a lower generation is replaced',
      { machine: A, generation: 2 },
      { machine: B, generation: 3 },
      false,
    ],
    ['an equal learned one is kept', { machine: A }, { machine: B }, true],
    ['an equal adopted one is kept', { machine: A, origin: 'adopted' }, { machine: B }, true],
    [
      'an equal copied one is replaced',
      { machine: A, origin: 'copied' },
      { machine: B, origin: 'copied' },
      false,
    ],
    ["the owner's own statement is accepted", { machine: A }, { machine: A, ttlMs: 5 }, false],
  ];
  for (const [claim, had, stated, stays] of cases) {
    test(`${claim}, and the caller receives the stored binding`, async (t) => {
      const { store, clock } = await start(t, open);
      const before = await store.upsert(binding(had.machine, had));
      await clock.advance(1);
      const after = await store.upsert(binding(stated.machine, stated));
      assert.deepEqual(await store.lookup(KEY), after);
      if (stays) assert.deepEqual(after, before);
      else {
        assert.equal(after.machine, stated.machine);
        assert.equal(after.generation, stated.generation ?? 1);
        assert.equal(after.expiresAt, clock.now() + (stated.ttlMs ?? TTL_MS));
      }
    });
  }

  test('the stated generation is stored', async (t) => {
    const { store } = await start(t, open);
    const stated = await store.upsert(binding(A, { generation: 9, origin: 'copied' }));
    assert.equal(stated.generation, 9);
    assert.equal(stated.origin, 'copied');
    assert.deepEqual(await store.lookup(KEY), stated);
  });

  test('the stated creation time is stored, limits the lifetime, and is never in the future', async (t) => {
    const { store, clock } = await start(t, open, { maxAgeMs: TTL_MS });
    const createdAt = clock.now() - TTL_MS + 10;
    const old = await store.upsert(binding(A, { createdAt }));
    assert.equal(old.createdAt, createdAt);
    assert.equal(old.expiresAt, clock.now() + 10);
    assert.deepEqual(await store.lookup(KEY), old);
    const future = await store.upsert(
      binding(A, { key: keyOf('unborn'), createdAt: clock.now() + 5 }),
    );
    assert.equal(future.createdAt, clock.now());
  });
}

function rebindContract(open: OpenStore): void {
  const rebind = (store: SessionStore, from: MachineId, to: MachineId, ttlMs = TTL_MS) =>
    store.rebind(KEY, from, to, 'adopted', ttlMs);

  test('a rebind moves the key, raises the generation and preserves the creation time', async (t) => {
    const { store, clock } = await start(t, open);
    const first = await store.claim(binding(A));
    await clock.advance(10);
    const moved = await rebind(store, A, B);
    assert.deepEqual(moved, {
      ...first,
      machine: B,
      origin: 'adopted',
      generation: 2,
      expiresAt: clock.now() + TTL_MS,
    });
    assert.deepEqual(await store.lookup(KEY), moved);
  });

  test('a rebind from a Machine other than the owner changes nothing', async (t) => {
    const { store } = await start(t, open);
    const first = await store.claim(binding(A));
    assert.deepEqual(await rebind(store, B, C), first);
    assert.deepEqual(await store.lookup(KEY), first);
  });

  test('a rebind of an absent key binds nothing', async (t) => {
    const { store } = await start(t, open);
    assert.equal(await rebind(store, A, B), undefined);
    assert.equal(await ownerIn(store, KEY), 'absent');
  });

  test('of two rebinds from one owner the first called wins', async (t) => {
    const { store } = await start(t, open);
    await store.claim(binding(A));
    const [first, second] = await Promise.all([rebind(store, A, B), rebind(store, A, C)]);
    assert.equal(first?.machine, B);
    assert.equal(second?.machine, B);
    assert.equal(second.generation, 2);
  });

  test('a rebind to the current owner changes no owner', async (t) => {
    const { store } = await start(t, open);
    await store.claim(binding(A));
    assert.equal((await rebind(store, A, A))?.generation, 1);
  });
}

function lifeContract(open: OpenStore): void {
  test('a binding exists until its expiry, and is absent from that moment', async (t) => {
    const { store, clock } = await start(t, open);
    await store.claim(binding(A));
    await clock.advance(TTL_MS - 1);
    assert.equal(await ownerIn(store, KEY), A);
    await clock.advance(1);
    assert.equal(await ownerIn(store, KEY), 'absent');
  });

  test('an expired binding is absent to every method', async (t) => {
    const { store, clock } = await start(t, open);
    await store.claim(binding(A));
    await clock.advance(TTL_MS);
    assert.equal(await store.touch(KEY, TTL_MS), false);
    assert.equal(await store.expireWithin(KEY, TTL_MS), false);
    assert.equal(await store.delete(KEY), false);
    assert.equal(await store.rebind(KEY, A, B, 'adopted', TTL_MS), undefined);
    assert.deepEqual(await listOf(store), []);
    assert.equal(await ownerIn(store, KEY), 'absent');
  });

  test('a touch extends the expiry and never shortens it', async (t) => {
    const { store, clock } = await start(t, open);
    const first = await store.claim(binding(A));
    assert.equal(await store.touch(KEY, 5), true);
    assert.deepEqual(await store.lookup(KEY), first);
    await clock.advance(100);
    assert.equal(await store.touch(KEY, TTL_MS), true);
    assert.deepEqual(await store.lookup(KEY), { ...first, expiresAt: first.expiresAt + 100 });
    assert.equal(await store.touch(keyOf('other'), TTL_MS), false);
  });

  test('an early expiry shortens the life of a binding and never extends it', async (t) => {
    const { store, clock } = await start(t, open);
    const first = await store.claim(binding(A));
    assert.equal(await store.expireWithin(KEY, 2 * TTL_MS), true);
    assert.deepEqual(await store.lookup(KEY), first);
    assert.equal(await store.expireWithin(KEY, 50), true);
    await clock.advance(49);
    assert.equal(await ownerIn(store, KEY), A);
    await clock.advance(1);
    assert.equal(await ownerIn(store, KEY), 'absent');
    assert.equal(await store.expireWithin(keyOf('other'), 50), false);
  });

  test('no binding outlives its maximum age, however often it is extended', async (t) => {
    const maxAgeMs = 2.5 * TTL_MS;
    const { store, clock } = await start(t, open, { maxAgeMs });
    const { createdAt } = await store.claim(binding(A));
    await clock.advance(TTL_MS - 1);
    await store.touch(KEY, TTL_MS);
    await clock.advance(TTL_MS - 1);
    await store.claim(binding(A));
    await store.upsert(binding(A));
    const moved = await store.rebind(KEY, A, B, 'adopted', TTL_MS);
    assert.equal(moved?.expiresAt, createdAt + maxAgeMs);
    await clock.advance(createdAt + maxAgeMs - clock.now());
    assert.equal(await ownerIn(store, KEY), 'absent');
  });

  test('a TTL beyond the maximum age is reduced to it', async (t) => {
    const { store, clock } = await start(t, open, { maxAgeMs: 10 });
    assert.equal((await store.claim(binding(A))).expiresAt, clock.now() + 10);
  });

  test('a delete removes a binding, and reports whether it existed', async (t) => {
    const { store } = await start(t, open);
    await store.claim(binding(A));
    assert.equal(await store.delete(KEY), true);
    assert.equal(await ownerIn(store, KEY), 'absent');
    assert.equal(await store.delete(KEY), false);
  });

  test('a delete for a Machine other than the owner removes no binding', async (t) => {
    const { store } = await start(t, open);
    await store.claim(binding(A));
    assert.equal(await store.delete(KEY, B), false);
    assert.equal(await ownerIn(store, KEY), A);
    assert.equal(await store.delete(KEY, A), true);
    assert.equal(await ownerIn(store, KEY), 'absent');
  });
}

function orderContract(open: OpenStore): void {
  test('a lookup sees the writes called before it, committed or not', async (t) => {
    const { store } = await start(t, open);
    const writes: Promise<unknown>[] = [store.claim(binding(A))];
    assert.equal(await ownerIn(store, KEY), A);
    writes.push(store.rebind(KEY, A, B, 'adopted', TTL_MS));
    assert.equal(await ownerIn(store, KEY), B);
    writes.push(store.claim(binding(C)));
    assert.equal(await ownerIn(store, KEY), B);
    writes.push(store.delete(KEY, A));
    assert.equal(await ownerIn(store, KEY), B);
    writes.push(store.delete(KEY));
    assert.equal(await ownerIn(store, KEY), 'absent');
    writes.push(store.claim(binding(C)));
    assert.equal(await ownerIn(store, KEY), C);
    await Promise.all(writes);
    assert.equal(await ownerIn(store, KEY), C);
  });

  test('writes take effect in the order of their calls', async (t) => {
    const { store } = await start(t, open);
    const results = await Promise.all([
      store.claim(binding(A)),
      store.delete(KEY),
      store.claim(binding(B)),
      store.rebind(KEY, A, C, 'learned', TTL_MS),
      store.delete(KEY, A),
    ]);
    const [claimedByA, isRemoved, claimedByB, rebound, isRemovedAgain] = results;
    assert.equal(claimedByA.machine, A);
    assert.equal(isRemoved, true);
    assert.equal(claimedByB.machine, B);
    assert.equal(rebound?.machine, B);
    assert.equal(isRemovedAgain, false);
    assert.equal(await ownerIn(store, KEY), B);
  });

  test('a cleanup, a listing and the metrics include the writes called before them', async (t) => {
    const { store } = await start(t, open);
    const claims = keysOf('k', 20).map((key) => store.claim(binding(A, { key })));
    assert.equal((await listOf(store)).length, 20);
    assert.equal((await store.getMetrics()).total, 20);
    await Promise.all(claims);
  });
}

function boundsContract(open: OpenStore): void {
  const claimAll = async (
    { store, clock }: { store: SessionStore; clock: TestClock },
    prefix: string,
    count: number,
    origin: BindingOrigin,
  ): Promise<void> => {
    for (const key of keysOf(prefix, count)) {
      await store.claim(binding(A, { key, origin }));
      await clock.advance(1);
    }
  };
  const namesLeft = async (store: SessionStore, prefixes: string[]): Promise<string[]> => {
    const left = new Set((await listOf(store)).map(({ key }) => key));
    return prefixes
      .flatMap((prefix) => Array.from({ length: 20 }, (_, index) => `${prefix}-${index}`))
      .filter((name) => left.has(keyOf(name)));
  };

  test('a cleanup removes expired bindings and no others', async (t) => {
    const opened = await start(t, open);
    const { store, clock } = opened;
    await claimAll(opened, 'early', 5, 'learned');
    await clock.advance(1_000);
    await claimAll(opened, 'late', 3, 'adopted');
    await clock.advance(TTL_MS - 500);
    assert.equal((await store.getMetrics()).expired, 5);
    assert.equal(await store.cleanup(), 5);
    assert.deepEqual(await namesLeft(store, ['early', 'late']), ['late-0', 'late-1', 'late-2']);
    const metrics = await store.getMetrics();
    assert.equal(metrics.total, 3);
    assert.equal(metrics.expired, 0);
    assert.equal(metrics.lastCleanupAt, clock.now());
    assert.equal(await store.cleanup(), 0);
  });

  test('over the limit the least recently used are evicted first', async (t) => {
    const opened = await start(t, open, { maxSessions: 4 });
    const { store } = opened;
    await claimAll(opened, 'k', 4, 'learned');
    await store.touch(keyOf('k-0'), TTL_MS);
    await claimAll(opened, 'new', 2, 'learned');
    await store.cleanup();
    const left = await namesLeft(store, ['k', 'new']);
    assert.deepEqual(left, ['k-0', 'k-3', 'new-0', 'new-1']);
    assert.equal(await ownerIn(store, keyOf('k-1')), 'absent');
  });

  test('over the limit copies are evicted first, then adopted bindings, then learned ones', async (t) => {
    const opened = await start(t, open, { maxSessions: 6 });
    const { store } = opened;
    await claimAll(opened, 'learned', 2, 'learned');
    await claimAll(opened, 'adopted', 2, 'adopted');
    await claimAll(opened, 'copied', 2, 'copied');
    await claimAll(opened, 'more', 3, 'learned');
    await store.cleanup();
    assert.deepEqual(await namesLeft(store, ['learned', 'adopted', 'copied', 'more']), [
      ...['learned-0', 'learned-1', 'adopted-1'],
      ...['more-0', 'more-1', 'more-2'],
    ]);
  });

  test('a flood of adopted ids fills at most half of the store, before any cleanup', async (t) => {
    const { store } = await start(t, open, { maxSessions: 400 });
    await Promise.all(keysOf('mine', 150).map((key) => store.claim(binding(A, { key }))));
    const flood = keysOf('flood', 2_000).map((key) =>
      store.claim(binding(B, { key, origin: 'adopted' })),
    );
    await Promise.all(flood);
    const left = await listOf(store);
    assert.equal(left.filter(({ machine }) => machine === A).length, 150);
    const adoptedCount = left.length - 150;
    assert.ok(
      adoptedCount >= 190 && adoptedCount <= 202,
      `${adoptedCount} adopted bindings are left`,
    );
    await store.cleanup();
    assert.equal((await store.getMetrics()).total, 350);
  });

  test('a flood of copies respects the limit and displaces no other bindings', async (t) => {
    const { store } = await start(t, open, { maxSessions: 300 });
    await Promise.all(keysOf('mine', 100).map((key) => store.claim(binding(A, { key }))));
    const flood = keysOf('copy', 1_500).map((key) =>
      store.upsert(binding(B, { key, origin: 'copied' })),
    );
    await Promise.all(flood);
    const left = await listOf(store);
    assert.equal(left.filter(({ machine }) => machine === A).length, 100);
    assert.ok(left.length <= 303, `${left.length} are left`);
    await store.cleanup();
    assert.equal((await store.getMetrics()).total, 300);
  });

  test('an evicted binding is absent immediately', async (t) => {
    const opened = await start(t, open, { maxSessions: 2 });
    const { store } = opened;
    await claimAll(opened, 'k', 3, 'learned');
    await store.cleanup();
    const owners = await Promise.all(keysOf('k', 3).map((key) => ownerIn(store, key)));
    assert.deepEqual(owners, ['absent', A, A]);
  });
}

function reportingContract(open: OpenStore): void {
  test('a listing contains every binding once, and no expired one', async (t) => {
    const { store, clock } = await start(t, open);
    await Promise.all(
      keysOf('k', 1_203).map((key, index) =>
        store.claim(binding(index % 2 ? A : B, { key, ttlMs: index % 3 ? TTL_MS : 10 })),
      ),
    );
    await clock.advance(10);
    const found = await listOf(store);
    assert.equal(found.length, 802);
    assert.equal(new Set(found.map(({ key }) => key)).size, 802);
    assert.deepEqual(
      await store.lookup(keyOf('k-1')),
      found.find(({ key }) => key === keyOf('k-1')),
    );
  });

  test('the metrics count the operations', async (t) => {
    const { store, clock } = await start(t, open);
    await store.claim(binding(A));
    await store.claim(binding(B));
    await store.upsert(binding(A, { key: keyOf('other') }));
    await store.rebind(KEY, A, B, 'adopted', TTL_MS);
    await store.rebind(KEY, A, B, 'adopted', TTL_MS);
    await store.delete(KEY, A);
    await store.delete(KEY);
    await store.lookup(KEY);
    await store.lookup(KEY);
    const { sizeBytes, ...metrics } = await store.getMetrics();
    assert.deepEqual(metrics, {
      total: 1,
      expired: 0,
      lookups: 2,
      upserts: 3,
      deletes: 1,
      errors: 0,
      lastCleanupAt: undefined,
    });
    assert.ok(sizeBytes >= 0);
    await clock.advance(TTL_MS);
    assert.equal((await store.getMetrics()).expired, 1);
  });

  test('rows are counted correctly after every kind of write', async (t) => {
    const { store, clock } = await start(t, open);
    await store.upsert(binding(A, { origin: 'copied' }));
    await store.claim(binding(A, { origin: 'adopted' }));
    await store.claim(binding(A, { origin: 'learned' }));
    await clock.advance(TTL_MS);
    await store.claim(binding(B, { origin: 'adopted' }));
    assert.equal((await store.getMetrics()).total, 1);
    await store.delete(KEY);
    assert.equal((await store.getMetrics()).total, 0);
  });
}

function closingContract(open: OpenStore): void {
  const isClosed = { name: 'StoreError', code: 'closed' };

  test('a closed store rejects every operation except another close', async (t) => {
    const { store } = await start(t, open);
    await store.claim(binding(A));
    await store.close();
    assert.equal(await store.lookup(KEY), 'unknown');
    await assert.rejects(store.claim(binding(A)), isClosed);
    await assert.rejects(store.upsert(binding(A)), isClosed);
    await assert.rejects(store.rebind(KEY, A, B, 'learned', TTL_MS), isClosed);
    await assert.rejects(store.touch(KEY, TTL_MS), isClosed);
    await assert.rejects(store.expireWithin(KEY, TTL_MS), isClosed);
    await assert.rejects(store.delete(KEY), isClosed);
    await assert.rejects(store.cleanup(), isClosed);
    await assert.rejects(store.getMetrics(), isClosed);
    await assert.rejects(listOf(store), isClosed);
    await store.close();
  });

  test('a close finishes the writes in progress', async (t) => {
    const { store } = await start(t, open);
    const claims = keysOf('k', 1_200).map((key) => store.claim(binding(A, { key })));
    await Promise.all([store.close(), store.close()]);
    const owners = await Promise.all(claims);
    assert.ok(owners.every(({ machine }) => machine === A));
  });

  test('a close aborts the cleanup in progress', async (t) => {
    const { store, clock } = await start(t, open);
    await Promise.all(keysOf('k', 1_200).map((key) => store.claim(binding(A, { key }))));
    await clock.advance(TTL_MS + 1);
    let hasEnded = false;
    const end = (): void => void (hasEnded = true);
    const cleaned = store.cleanup().then(end, end);
    await store.close();
    await nextTurn();
    assert.equal(hasEnded, true);
    await cleaned;
  });
}

function sharingContract(open: OpenStore): void {
  const startTwo = async (t: TestContext) => {
    const clock = createTestClock();
    const options = { clock, limits: { maxSessions: 1_000, maxAgeMs: 0 }, place: 'shared' };
    const [one, other] = await Promise.all([open(t, options), open(t, options)]);
    return { clock, one, other, reopen: () => open(t, options) };
  };

  test('a binding exists after the store is opened again', async (t) => {
    const { one, other, reopen } = await startTwo(t);
    const claimed = await one.claim(binding(A, { generation: 1 }));
    await Promise.all([one.close(), other.close()]);
    const again = await reopen();
    assert.deepEqual(await again.lookup(KEY), claimed);
    assert.equal((await again.getMetrics()).total, 1);
  });

  test('a new binding of one store is visible to the other immediately', async (t) => {
    const { one, other } = await startTwo(t);
    assert.equal(await ownerIn(other, KEY), 'absent');
    const claimed = await one.claim(binding(A));
    assert.deepEqual(await other.lookup(KEY), claimed);
  });

  test('a change of a binding in one store is visible to the other within a second', async (t) => {
    const { clock, one, other } = await startTwo(t);
    await one.claim(binding(A));
    assert.equal(await ownerIn(other, KEY), A);
    await one.rebind(KEY, A, B, 'adopted', TTL_MS);
    await clock.advance(MAX_STALENESS_MS);
    assert.equal(await ownerIn(other, KEY), B);
    await one.delete(KEY);
    await clock.advance(MAX_STALENESS_MS);
    assert.equal(await ownerIn(other, KEY), 'absent');
  });

  test('of simultaneous claims through two stores exactly one wins', async (t) => {
    const { one, other } = await startTwo(t);
    const keys = keysOf('k', 100);
    const [byOne, byOther] = await Promise.all([
      Promise.all(keys.map((key) => one.claim(binding(A, { key })))),
      Promise.all(keys.map((key) => other.claim(binding(B, { key })))),
    ]);
    assert.deepEqual(byOne, byOther);
    for (const claimed of byOne) assert.deepEqual(await one.lookup(claimed.key), claimed);
    for (const claimed of byOne) assert.deepEqual(await other.lookup(claimed.key), claimed);
  });

  test('of simultaneous rebinds through two stores exactly one wins', async (t) => {
    const { one, other } = await startTwo(t);
    await one.claim(binding(A));
    const [byOne, byOther] = await Promise.all([
      one.rebind(KEY, A, B, 'adopted', TTL_MS),
      other.rebind(KEY, A, C, 'adopted', TTL_MS),
    ]);
    assert.deepEqual(byOne, byOther);
    assert.equal(byOne?.generation, 2);
  });

  test("a claim that loses to the other store's claim returns the owner, and so do lookups", async (t) => {
    const { one, other } = await startTwo(t);
    assert.equal(await ownerIn(one, KEY), 'absent');
    await other.claim(binding(B));
    const claim = one.claim(binding(A));
    assert.equal(await ownerIn(one, KEY), B);
    assert.equal((await claim).machine, B);
    assert.equal(await ownerIn(one, KEY), B);
  });
}
