import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMemoryStore } from '../../src/store/memory.ts';
import { createTestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';
import { storeContract, type OpenStore } from './contract.ts';
import { agreesWithTheRules } from './model.ts';

const open: OpenStore = (t, { clock, limits }) => {
  const store = createMemoryStore({ clock, limits });
  t.after(() => store.close());
  return Promise.resolve(store);
};

storeContract('memory', open, { canShare: false });
agreesWithTheRules('memory', open, { canShare: false });

test('a memory store returns a lookup synchronously, and starts no timer', () => {
  const clock = createTestClock();
  const store = createMemoryStore({ clock, limits: { maxSessions: 10, maxAgeMs: 0 } });
  void store.claim({ key: keyOf('a'), machine: machineId('m'), origin: 'learned', ttlMs: 10 });
  const found = store.lookup(keyOf('a'));
  assert.equal(typeof found === 'string' ? found : found.machine, 'm');
  assert.equal(clock.pendingCount(), 0);
});

test('a store that receives twice its limit ends at its limit with the newer half', async () => {
  const clock = createTestClock();
  const maxSessions = 5_000;
  const store = createMemoryStore({ clock, limits: { maxSessions, maxAgeMs: 0 } });
  const claim = (index: number): Promise<unknown> =>
    store.claim({
      key: keyOf(`k${index}`),
      machine: machineId('m'),
      origin: 'learned',
      ttlMs: 1_000,
    });
  for (let index = 0; index < 2 * maxSessions; index += 1) await claim(index);
  await store.cleanup();
  assert.equal((await store.getMetrics()).total, maxSessions);
  assert.equal(store.lookup(keyOf(`k${maxSessions - 1}`)), 'absent');
  assert.notEqual(store.lookup(keyOf(`k${maxSessions}`)), 'absent');
});
