import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createOwnSessionSearch } from '../src/own-sessions.ts';
import { createMemoryStore } from '../src/store/memory.ts';
import type { SessionStore } from '../src/store/store.ts';
import { createTestClock } from './support/clock.ts';
import { keyOf, machineId } from './support/ids.ts';

const SELF = machineId('a1');
const OTHER = machineId('b2');

/** A store that counts how often it is walked through. */
function openStore(): { store: SessionStore; walks: () => number } {
  let walks = 0;
  const store = createMemoryStore({
    clock: createTestClock(),
    limits: { maxSessions: 1_000, maxAgeMs: 0 },
  });
  const entries = store.entries.bind(store);
  return {
    store: { ...store, entries: () => ((walks += 1), entries()) },
    walks: () => walks,
  };
}

function claim(store: SessionStore, name: string, machine = SELF): Promise<unknown> {
  return store.claim({ key: keyOf(name), machine, origin: 'learned', ttlMs: 60_000 });
}

test('a Machine owns a session as long as one of its own is left', async () => {
  const { store } = openStore();
  const ownsAny = createOwnSessionSearch(store, SELF);
  await claim(store, 'others', OTHER);
  assert.equal(await ownsAny(), false);
  await claim(store, 'first');
  await claim(store, 'second');
  assert.equal(await ownsAny(), true);
  await store.delete(keyOf('first'));
  assert.equal(await ownsAny(), true);
  await store.delete(keyOf('second'));
  assert.equal(await ownsAny(), false);
});

test('a store is walked through once, however often it is asked', async () => {
  const { store, walks } = openStore();
  await claim(store, 'mine');
  const ownsAny = createOwnSessionSearch(store, SELF);
  for (let times = 0; times < 5; times += 1) assert.equal(await ownsAny(), true);
  assert.equal(walks(), 1);
});

test('a store that can not say holds nothing up', async () => {
  const { store } = openStore();
  await claim(store, 'mine');
  await store.close();
  assert.equal(await createOwnSessionSearch(store, SELF)(), false);
});
