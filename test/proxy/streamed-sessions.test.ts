/** How a Machine detects changes to sessions with an open stream: by store lookups. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { MachineId, SessionKey } from '../../src/session.ts';
import { createBindings } from '../../src/proxy/bindings.ts';
import { StreamedSessions, PROBE_PERIOD_MS } from '../../src/proxy/streamed-sessions.ts';
import type { Release } from '../../src/proxy/open-streams.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import type { SessionStore } from '../../src/store/store.ts';
import { createTestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';
import { nullMetrics } from '../../src/observability/metrics.ts';

const [SELF, OTHER] = [machineId('aa'), machineId('bb')];
const KEY = keyOf('room');
const TTL_MS = 600_000;
const TICK_MS = PROBE_PERIOD_MS / 10;

/** `shared`: a healthy shared database. `failing`: a database that may have lost rows. */
function setUp(kind: 'local' | 'shared' | 'failing', maxAgeMs = 0) {
  const clock = createTestClock();
  const memory = createMemoryStore({ clock, limits: { maxSessions: 100_000, maxAgeMs } });
  const lookedUp: SessionKey[] = [];
  const touched: SessionKey[] = [];
  const store: SessionStore = {
    ...memory,
    kind: kind === 'local' ? 'memory' : 'redis',
    isShared: kind === 'shared',
    lookup: (key) => {
      lookedUp.push(key);
      const found = memory.lookup(key);
      return kind === 'local' ? found : Promise.resolve(found);
    },
    touch: (key, ttlMs) => {
      touched.push(key);
      return memory.touch(key, ttlMs);
    },
  };
  const lost: [SessionKey, Release][] = [];
  const streamed = new StreamedSessions({
    ...{ self: SELF, store, clock, ttlMs: TTL_MS },
    background: (_what, work) => work.then(() => undefined),
    onLost: (key, release) => void lost.push([key, release]),
  });
  const bind = (key = KEY, machine: MachineId = SELF, generation = 1) =>
    memory.upsert({ key, machine, origin: 'learned', generation, ttlMs: TTL_MS });
  return { clock, memory, streamed, bind, lookedUp, touched, lost };
}

describe('a session with an open stream in a shared store', () => {
  test('is lost within ten seconds when its row names another Machine, and is no longer extended', async () => {
    const { clock, streamed, bind, touched, lost } = setUp('shared');
    await bind();
    const release = streamed.keepAlive(KEY);
    await clock.advance(PROBE_PERIOD_MS);
    await bind(KEY, OTHER, 2);
    await clock.advance(PROBE_PERIOD_MS + TICK_MS);
    assert.deepEqual(lost[0], [KEY, { to: OTHER, why: 'moved' }]);
    release();
    await clock.advance(TTL_MS / 2);
    assert.deepEqual(touched, []);
    assert.equal(clock.pendingCount(), 0);
  });

  test('is lost when its row was deleted', async () => {
    const { clock, memory, streamed, bind, lost } = setUp('shared');
    await bind();
    streamed.keepAlive(KEY);
    await clock.advance(TICK_MS);
    await memory.delete(KEY);
    await clock.advance(PROBE_PERIOD_MS + TICK_MS);
    assert.deepEqual(lost[0], [KEY, { why: 'deleted' }]);
    streamed.stop();
  });

  const notLost: [string, 'shared' | 'failing' | 'local', maxAgeMs: number, endedHere: boolean][] =
    [
      ['by this Machine itself', 'shared', 0, true],
      ['by its age', 'shared', 15_000, false],
      ['in a store that may have lost it', 'failing', 0, false],
      ['in a local store, which evicts', 'local', 0, false],
    ];
  for (const [name, kind, maxAgeMs, isEndedHere] of notLost) {
    test(`is not lost when its row has ended ${name}`, async () => {
      const { clock, memory, streamed, bind, lost } = setUp(kind, maxAgeMs);
      await bind();
      streamed.keepAlive(KEY);
      await clock.advance(TICK_MS);
      if (isEndedHere) streamed.noteEnded(KEY);
      if (maxAgeMs === 0) await memory.delete(KEY);
      await clock.advance(TTL_MS);
      assert.deepEqual(lost, []);
      streamed.stop();
    });
  }

  test('is looked up once per period: ten thousand sessions in batches of a thousand', async () => {
    const { clock, streamed, bind, lookedUp } = setUp('shared');
    const keys = Array.from({ length: 10_000 }, (_, i) => keyOf(`room-${i}`));
    for (const key of keys) {
      await bind(key);
      streamed.keepAlive(key);
    }
    for (let i = 1; i <= 10; i += 1) {
      await clock.advance(TICK_MS);
      assert.equal(lookedUp.length, 1_000 * i);
    }
    assert.equal(new Set(lookedUp).size, 10_000);
    streamed.stop();
  });
});

describe('a session with an open stream in a local store', () => {
  test('is looked up once after the stream opens, and then when it is extended', async () => {
    const { clock, streamed, bind, lookedUp, touched } = setUp('local');
    await bind();
    streamed.keepAlive(KEY);
    await clock.advance(TTL_MS / 4 - 1);
    assert.deepEqual([lookedUp.length, touched.length], [1, 0]);
    await clock.advance(TICK_MS);
    assert.deepEqual([lookedUp.length, touched.length], [2, 1]);
    streamed.stop();
  });

  test('is lost if it moved before its stream opened', async () => {
    const { clock, streamed, bind, lost } = setUp('local');
    await bind(KEY, OTHER);
    streamed.keepAlive(KEY);
    await clock.advance(TICK_MS);
    assert.deepEqual(lost, [[KEY, { to: OTHER, why: 'moved' }]]);
    streamed.stop();
  });
});

test('stop() of the bindings waits for the lookup and the last touch of a stream that has just closed', async () => {
  const clock = createTestClock();
  const memory = createMemoryStore({ clock, limits: { maxSessions: 10, maxAgeMs: 0 } });
  let touches = 0;
  const bindings = createBindings({
    metrics: nullMetrics,
    ...{ self: SELF, clock, ttlMs: TTL_MS, peers: { announce: () => undefined } },
    store: {
      ...memory,
      lookup: (key) => Promise.resolve(memory.lookup(key)),
      touch: async (key, ttlMs) => {
        const isTouched = await memory.touch(key, ttlMs);
        touches += 1;
        return isTouched;
      },
    },
    onFailure: ({ operation, error }) => assert.fail(`${operation}: ${String(error)}`),
    onConflict: () => undefined,
  });
  bindings.keepAlive(KEY)();
  await bindings.stop();
  assert.equal(touches, 1);
});
