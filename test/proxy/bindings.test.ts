import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  parseSessionId,
  parseSessionKey,
  type Binding,
  type MachineId,
  type SessionId,
  type SessionKey,
} from '../../src/affinity/session.ts';
import {
  COMMIT_TIMEOUT_MS,
  createBindings,
  STREAM_GRACE_MS,
  type Bindings,
} from '../../src/proxy/bindings.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import type { Lookup, SessionStore } from '../../src/store/store.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';

const [SELF, B, C] = ['aa', 'bb', 'cc'].map(machineId) as [MachineId, MachineId, MachineId];
const TTL_MS = 600_000;
const KEY = keyOf('s');

interface Setting {
  readonly bindings: Bindings;
  readonly clock: TestClock;
  readonly store: SessionStore;
  /** Operations that were called, in order. */
  readonly writes: string[];
  readonly announced: Binding[];
  readonly failures: string[];
  readonly conflicts: [SessionKey, MachineId][];
  readonly row: (key?: SessionKey) => Binding | undefined;
}

/** Over a real store in memory; `broken` stands in for parts of it. */
function setUp(t: TestContext, broken: Partial<SessionStore> = {}): Setting {
  const clock = createTestClock();
  const memory = createMemoryStore({ clock, limits: { maxSessions: 100, maxAgeMs: 0 } });
  const writes: string[] = [];
  const store: SessionStore = {
    ...memory,
    touch: (key, ttlMs) => {
      writes.push('touch');
      return memory.touch(key, ttlMs);
    },
    ...broken,
  };
  const announced: Binding[] = [];
  const failures: string[] = [];
  const conflicts: [SessionKey, MachineId][] = [];
  const bindings = createBindings({
    self: SELF,
    store,
    peers: { announce: (binding) => announced.push(binding) },
    clock,
    ttlMs: TTL_MS,
    onFailure: (what) => failures.push(what),
    onConflict: (key, other) => conflicts.push([key, other]),
  });
  t.after(() => bindings.stop());
  const row = (key = KEY): Binding | undefined => boundIn(memory.lookup(key));
  return { bindings, clock, store: memory, writes, announced, failures, conflicts, row };
}

function boundIn(looked: Lookup): Binding | undefined {
  return typeof looked === 'string' ? undefined : looked;
}

function idOf(text: string): SessionId {
  return parseSessionId(text) ?? assert.fail();
}

/** A key whose first two digits, which spread the writes, are these. */
function keyBeginning(digits: string): SessionKey {
  return parseSessionKey(digits.padEnd(32, '0')) ?? assert.fail();
}

async function bindHere(
  { store }: Setting,
  key = KEY,
  origin = 'learned' as const,
): Promise<Binding> {
  return store.claim({ key, machine: SELF, origin, ttlMs: TTL_MS });
}

async function copyOf({ store }: Setting, machine: MachineId, generation = 1): Promise<void> {
  await store.upsert({ key: KEY, machine, origin: 'copied', generation, ttlMs: TTL_MS });
}

describe('an id that the app has minted', () => {
  test('is bound to this Machine and announced', async (t) => {
    const setting = setUp(t);
    await setting.bindings.learn(idOf('s'));
    const row = setting.row();
    assert.deepEqual([row?.machine, row?.origin, row?.generation], [SELF, 'learned', 1]);
    assert.deepEqual(setting.announced, [row]);
    assert.deepEqual(setting.conflicts, []);
  });

  test('is taken from another Machine that was said to have it, and that is told of', async (t) => {
    const setting = setUp(t);
    await copyOf(setting, B, 4);
    await setting.bindings.learn(idOf('s'));
    const row = setting.row();
    assert.deepEqual([row?.machine, row?.origin, row?.generation], [SELF, 'learned', 5]);
    assert.deepEqual(setting.conflicts, [[KEY, B]]);
    assert.deepEqual(setting.announced, [row]);
  });

  test('stays with a third Machine that was faster, and is not announced', async (t) => {
    const setting = setUp(t, {
      rebind: (key) => Promise.resolve({ ...bindingOf(key), machine: C }),
    });
    await copyOf(setting, B);
    await setting.bindings.learn(idOf('s'));
    assert.deepEqual(setting.announced, []);
  });

  test('goes out though the store fails, which is told of', async (t) => {
    const setting = setUp(t, { claim: () => Promise.reject(new Error('disk full')) });
    await setting.bindings.learn(idOf('s'));
    assert.deepEqual(setting.failures, ['bind']);
    assert.equal(setting.clock.pendingCount(), 0);
  });

  test('goes out two seconds later at most though the store hangs, which is told of', async (t) => {
    const commit = Promise.withResolvers<Binding>();
    const setting = setUp(t, { claim: () => commit.promise });
    let isOut = false;
    const learned = setting.bindings.learn(idOf('s')).then(() => (isOut = true));
    await setting.clock.advance(COMMIT_TIMEOUT_MS - 1);
    assert.equal(isOut, false);
    await setting.clock.advance(1);
    await learned;
    assert.deepEqual(setting.failures, ['bind']);
    commit.resolve(bindingOf(KEY));
    await setting.bindings.stop();
    assert.equal(setting.announced.length, 1);
  });
});

function bindingOf(key: SessionKey): Binding {
  return { key, machine: SELF, origin: 'learned', generation: 1, createdAt: 0, expiresAt: 0 };
}

describe('an id that a client has brought', () => {
  test('is adopted if nobody has it, and announced', async (t) => {
    const setting = setUp(t);
    setting.bindings.adopt(KEY, undefined);
    await setting.bindings.stop();
    const row = setting.row();
    assert.deepEqual([row?.machine, row?.origin], [SELF, 'adopted']);
    assert.deepEqual(setting.announced, [row]);
  });

  test('is left to the Machine that has it', async (t) => {
    const setting = setUp(t);
    await copyOf(setting, B);
    setting.bindings.adopt(KEY, undefined);
    await setting.bindings.stop();
    assert.equal(setting.row()?.machine, B);
    assert.deepEqual(setting.announced, []);
  });

  test('moves here from the Machine that is gone, and from no other', async (t) => {
    const setting = setUp(t);
    await copyOf(setting, B, 2);
    setting.bindings.adopt(KEY, C);
    await setting.bindings.stop();
    assert.equal(setting.row()?.machine, B);
    assert.deepEqual(setting.announced, []);
    setting.bindings.adopt(KEY, B);
    await setting.bindings.stop();
    const row = setting.row();
    assert.deepEqual([row?.machine, row?.origin, row?.generation], [SELF, 'adopted', 3]);
    assert.deepEqual(setting.announced, [row]);
  });
});

describe('what a peer says it owns', () => {
  test('is kept as a copy, for as long as it says', async (t) => {
    const setting = setUp(t);
    setting.bindings.copy(KEY, { machine: B, generation: 3, ttlMs: 5_000 });
    await setting.bindings.stop();
    const row = setting.row();
    assert.deepEqual([row?.machine, row?.origin, row?.generation], [B, 'copied', 3]);
    assert.equal((row?.expiresAt ?? 0) - setting.clock.now(), 5_000);
  });

  test('is dropped when it disowns it, and only then', async (t) => {
    const setting = setUp(t);
    await copyOf(setting, B);
    setting.bindings.drop(KEY, C);
    await setting.bindings.stop();
    assert.equal(setting.row()?.machine, B);
    setting.bindings.drop(KEY, B);
    await setting.bindings.stop();
    assert.equal(setting.row(), undefined);
  });
});

test('a session of this Machine ends here, that of another does not', async (t) => {
  const setting = setUp(t);
  await copyOf(setting, B);
  setting.bindings.end(KEY);
  await setting.bindings.stop();
  assert.equal(setting.row()?.machine, B);
  await setting.store.delete(KEY);
  await bindHere(setting);
  setting.bindings.end(KEY);
  await setting.bindings.stop();
  assert.equal(setting.row(), undefined);
});

describe('a binding that is used', () => {
  const rows: readonly (readonly [digits: string, afterMs: number])[] = [
    ['00', 60_000],
    ['80', 75_059],
    ['fe', 89_883],
  ];
  for (const [digits, afterMs] of rows) {
    test(`is written again after ${afterMs} ms of ten minutes, if its key begins with ${digits}`, async (t) => {
      const setting = setUp(t);
      const key = keyBeginning(digits);
      const binding = await bindHere(setting, key);
      await setting.clock.advance(afterMs - 1);
      setting.bindings.slide(binding);
      assert.deepEqual(setting.writes, []);
      await setting.clock.advance(1);
      setting.bindings.slide(binding);
      await setting.bindings.stop();
      assert.deepEqual(setting.writes, ['touch']);
      assert.equal(setting.row(key)?.expiresAt, setting.clock.now() + TTL_MS);
    });
  }

  test('is written once, however many requests have read it before', async (t) => {
    const setting = setUp(t);
    const binding = await bindHere(setting);
    await setting.clock.advance(TTL_MS / 2);
    for (let i = 0; i < 50; i += 1) setting.bindings.slide(binding);
    await setting.bindings.stop();
    assert.deepEqual(setting.writes, ['touch']);
  });

  test('slides again after a write that has failed', async (t) => {
    let isBroken = true;
    const setting = setUp(t, {
      touch: () => (isBroken ? Promise.reject(new Error('busy')) : Promise.resolve(true)),
    });
    const binding = await bindHere(setting);
    await setting.clock.advance(TTL_MS / 2);
    setting.bindings.slide(binding);
    await setting.bindings.stop();
    isBroken = false;
    setting.bindings.slide(binding);
    await setting.bindings.stop();
    assert.deepEqual(setting.failures, ['touch']);
  });
});

describe('a session with an open stream', () => {
  test('stays bound as long as one of its streams is open, and a whole time to live beyond', async (t) => {
    const setting = setUp(t);
    await bindHere(setting);
    const [first, second] = [setting.bindings.hold(KEY), setting.bindings.hold(KEY)];
    await setting.clock.advance(5 * TTL_MS);
    first();
    await setting.clock.advance(5 * TTL_MS);
    assert.equal(setting.row()?.machine, SELF);
    second();
    await setting.clock.advance(TTL_MS - 1);
    assert.equal(setting.row()?.machine, SELF);
    await setting.clock.advance(1);
    assert.equal(setting.row(), undefined);
  });

  test('is let go once, however often the stream says that it has closed', async (t) => {
    const setting = setUp(t);
    await bindHere(setting);
    const [first, second] = [setting.bindings.hold(KEY), setting.bindings.hold(KEY)];
    first();
    first();
    await setting.clock.advance(5 * TTL_MS);
    assert.equal(setting.row()?.machine, SELF);
    second();
  });

  test('costs one timer, whatever their number, and none when all are closed', async (t) => {
    const setting = setUp(t);
    const releases = ['s1', 's2', 's3'].map((text) => setting.bindings.hold(keyOf(text)));
    assert.equal(setting.clock.pendingCount(), 1);
    for (const release of releases) release();
    assert.equal(setting.clock.pendingCount(), 0);
    await nextTurn();
  });

  test('expires a minute after the stream that has taught its id', async (t) => {
    const setting = setUp(t);
    await bindHere(setting);
    const release = setting.bindings.hold(KEY);
    await setting.clock.advance(TTL_MS);
    release();
    setting.bindings.endWithStream(KEY);
    await setting.clock.advance(STREAM_GRACE_MS - 1);
    assert.equal(setting.row()?.machine, SELF);
    await setting.clock.advance(1);
    assert.equal(setting.row(), undefined);
  });
});

test('stopping waits for the writes under way, and leaves no timer', async (t) => {
  const commit = Promise.withResolvers<Binding>();
  const setting = setUp(t, { claim: () => commit.promise });
  setting.bindings.hold(KEY);
  setting.bindings.adopt(KEY, undefined);
  let isStopped = false;
  const stopped = setting.bindings.stop().then(() => (isStopped = true));
  await nextTurn();
  assert.equal(isStopped, false);
  commit.resolve(bindingOf(KEY));
  await stopped;
  assert.equal(setting.clock.pendingCount(), 0);
});
