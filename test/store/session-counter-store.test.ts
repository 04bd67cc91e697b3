/** What a counter receives through the store, and what its resyncs correct. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import {
  createCountedStore,
  createSessionCounter,
  type SessionCounter,
  RESYNC_INTERVAL_MS,
  RESYNC_RETRY_MS,
  startResync,
} from '../../src/store/session-counter.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import type { SessionStore } from '../../src/store/store.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';

const SELF = machineId('a1');
const OTHER = machineId('b2');
const TTL_MS = 1_800_000;
const KEY = keyOf('s');

interface Setting {
  readonly clock: TestClock;
  readonly counter: SessionCounter;
  /** The store that this process uses. */
  readonly store: SessionStore;
  /** The store that other processes write to. */
  readonly behind: SessionStore;
}

function setUp(behindOf: (memory: SessionStore) => SessionStore = (memory) => memory): Setting {
  const clock = createTestClock();
  const counter = createSessionCounter({
    self: SELF,
    clock,
    limit: 10,
    ttlMs: TTL_MS,
    maxAgeMs: 0,
  });
  const limits = { maxSessions: 1_000, maxAgeMs: 0 };
  const behind = behindOf(createMemoryStore({ clock, limits }));
  return { clock, counter, store: createCountedStore(behind, counter), behind };
}

const claimed = (store: SessionStore, machine = SELF, key = KEY): Promise<unknown> =>
  store.claim({ key, machine, origin: 'learned', ttlMs: TTL_MS });

type CountedCase = readonly [
  claim: string,
  happen: (setting: Setting) => Promise<unknown>,
  count: number,
];

function testCases(cases: readonly CountedCase[]): void {
  for (const [claim, happen, count] of cases) {
    test(claim, async () => {
      const setting = setUp();
      await happen(setting);
      assert.equal(setting.counter.count(), count);
    });
  }
}

describe('the session counter follows the writes of this process', () => {
  testCases([
    ['of a claim that won', ({ store }) => claimed(store), 1],
    [
      'of a claim that another Machine had won',
      async ({ store, behind }) => {
        await claimed(behind, OTHER);
        await claimed(store);
      },
      0,
    ],
    [
      'of a session taken over from another Machine',
      async ({ store }) => {
        await claimed(store, OTHER);
        await store.rebind(KEY, OTHER, SELF, 'adopted', TTL_MS);
      },
      1,
    ],
    [
      'of a session released to another Machine',
      async ({ store }) => {
        await claimed(store);
        await store.rebind(KEY, SELF, OTHER, 'adopted', TTL_MS);
      },
      0,
    ],
    [
      "of another Machine's claim that outranks ours",
      async ({ store }) => {
        await claimed(store);
        const stated = { machine: OTHER, origin: 'copied', generation: 5, ttlMs: TTL_MS } as const;
        await store.upsert({ key: KEY, ...stated });
      },
      0,
    ],
    [
      'of an end',
      async ({ store }) => {
        await claimed(store);
        await store.delete(KEY, SELF);
      },
      0,
    ],
    [
      'not of an end that was rejected',
      async ({ store }) => {
        await claimed(store);
        await store.delete(KEY, OTHER);
      },
      1,
    ],
    [
      'of a use',
      async ({ store, clock }) => {
        await claimed(store);
        await clock.advance(TTL_MS / 2);
        await store.touch(KEY, TTL_MS);
        await clock.advance(TTL_MS - 1);
      },
      1,
    ],
    [
      'of the end of a stream',
      async ({ store, clock }) => {
        await claimed(store);
        await store.expireWithin(KEY, 60_000);
        await clock.advance(64_000);
      },
      0,
    ],
  ]);
});

describe('the session counter follows the changes by other processes', () => {
  testCases([
    [
      'of a use of a binding that is gone meanwhile',
      async ({ store, behind }) => {
        await claimed(store);
        await behind.delete(KEY);
        await store.touch(KEY, TTL_MS);
      },
      0,
    ],
    [
      'of an existing session, when it is looked up',
      async ({ store, behind }) => {
        await claimed(behind);
        await store.lookup(KEY);
      },
      1,
    ],
    [
      'of one that another Machine has taken, when it is looked up',
      async ({ store, behind }) => {
        await claimed(store);
        await behind.rebind(KEY, SELF, OTHER, 'adopted', TTL_MS);
        await store.lookup(KEY);
      },
      0,
    ],
    [
      'nothing of a store that returns unknown',
      async ({ store, behind }) => {
        await claimed(store);
        await behind.close();
        assert.equal(await store.lookup(KEY), 'unknown');
      },
      1,
    ],
  ]);

  test('the same of a store with slow lookups', async () => {
    const { store, behind, counter } = setUp((memory) => ({
      ...memory,
      isShared: true,
      lookup: (key) => Promise.resolve(memory.lookup(key)),
    }));
    await claimed(behind);
    assert.equal(store.isShared, true);
    assert.equal(typeof (await store.lookup(KEY)), 'object');
    assert.equal(counter.count(), 1);
  });
});

test('a counted store is shared exactly as long as the store behind it is', () => {
  let isShared = true;
  const { store } = setUp((memory) => ({
    ...memory,
    get isShared() {
      return isShared;
    },
  }));
  assert.equal(store.isShared, true);
  isShared = false;
  assert.equal(store.isShared, false);
});

describe('a resync', () => {
  function begin(
    t: TestContext,
    { behind, counter, clock }: Setting,
    isWhole = (): boolean => true,
  ): () => Promise<void> {
    const resync = startResync(behind, counter, { clock, random: () => 0, isWhole });
    const stop = (): Promise<void> => {
      resync.cancel();
      return resync.ended();
    };
    t.after(stop);
    return stop;
  }

  test("count this Machine's bindings from before the start, and no others", async (t) => {
    const setting = setUp();
    for (const name of ['a', 'b', 'c']) await claimed(setting.behind, SELF, keyOf(name));
    await claimed(setting.behind, OTHER, keyOf('d'));
    begin(t, setting);
    await setting.clock.advance(0);
    assert.equal(setting.counter.count(), 3);
  });

  test('detect changes that were not reported', async (t) => {
    const setting = setUp();
    await claimed(setting.behind);
    begin(t, setting);
    await setting.clock.advance(RESYNC_INTERVAL_MS - 1);
    await setting.behind.rebind(KEY, SELF, OTHER, 'adopted', TTL_MS);
    assert.equal(setting.counter.count(), 1);
    await setting.clock.advance(1);
    assert.equal(setting.counter.count(), 0);
  });

  test('run again soon after a failure, which changes nothing', async (t) => {
    let isBroken = true;
    const setting = setUp((memory) => ({
      ...memory,
      entries: async function* () {
        for await (const binding of memory.entries()) {
          yield binding;
          if (isBroken) throw new Error('connection lost');
        }
      },
    }));
    for (const name of ['a', 'b', 'c']) await claimed(setting.store, SELF, keyOf(name));
    await claimed(setting.behind, SELF, keyOf('d'));
    begin(t, setting);
    await setting.clock.advance(0);
    assert.equal(setting.counter.count(), 3);
    isBroken = false;
    await setting.clock.advance(RESYNC_RETRY_MS);
    assert.equal(setting.counter.count(), 4);
  });

  test('wait while memory replaces the store, and run soon after', async (t) => {
    const setting = setUp();
    await claimed(setting.behind, SELF, keyOf('a'));
    let isWhole = false;
    begin(t, setting, () => isWhole);
    await setting.clock.advance(RESYNC_RETRY_MS);
    assert.equal(setting.counter.count(), 0);
    isWhole = true;
    await setting.clock.advance(RESYNC_RETRY_MS);
    assert.equal(setting.counter.count(), 1);
  });

  test('drop nothing if memory has replaced the store meanwhile', async (t) => {
    let isWhole = true;
    const setting = setUp((memory) => ({
      ...memory,
      entries: async function* () {
        isWhole = false;
        yield* [];
        await Promise.resolve();
      },
    }));
    await claimed(setting.store);
    begin(t, setting, () => isWhole);
    await setting.clock.advance(0);
    assert.equal(setting.counter.count(), 1);
  });

  test('end with the store, even halfway, and leave no timer', async (t) => {
    const setting = setUp((memory) => ({
      ...memory,
      entries: async function* () {
        for (;;) yield* memory.entries();
      },
    }));
    await claimed(setting.behind);
    const stop = begin(t, setting);
    await setting.clock.advance(0);
    await stop();
    assert.equal(setting.counter.count(), 1);
    assert.equal(setting.clock.pendingCount(), 0);
  });
});
