/**
 * A real file that is locked, damaged or deleted: the effects on the request path, and the final
 * contents.
 */
import assert from 'node:assert/strict';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { test, type TestContext } from 'node:test';
import type { SessionKey } from '../../../src/session.ts';
import { systemClock } from '../../../src/clock.ts';
import type { SessionStore } from '../../../src/store/store.ts';
import { keyOf, keysOf, machineId } from '../../support/ids.ts';
import { listOf } from '../every-operation.ts';
import { createPlace, holdWriteLock, type Place } from '../place.ts';
import { openWrapped, type Wrapped } from '../wrapped.ts';

const A = machineId('a1');
const TTL_MS = 600_000;
const LIMITS = { maxSessions: 1_000_000, maxAgeMs: 0 };
const TIMEOUT_MS = 60_000;

interface World {
  readonly place: Place;
  readonly store: Wrapped;
}

async function start(t: TestContext): Promise<World> {
  const place = await createPlace(t);
  const store = await openWrapped(
    t,
    { clock: systemClock, limits: LIMITS },
    {
      ...{ self: A, kind: 'sqlite', ttlMs: TTL_MS, random: Math.random },
      open: (hooks) => place.open(hooks),
    },
  );
  return { place, store };
}

async function claimAll(store: SessionStore, some: readonly SessionKey[]): Promise<void> {
  const claims = some.map((key) =>
    store.claim({ key, machine: A, origin: 'learned', ttlMs: TTL_MS }),
  );
  for (const { machine } of await Promise.all(claims)) assert.equal(machine, A);
}

async function recovered({ store }: World): Promise<void> {
  const deadline = performance.now() + TIMEOUT_MS;
  while (store.health().state !== 'healthy') {
    assert.ok(performance.now() < deadline, `still ${JSON.stringify(store.health())}`);
    await systemClock.sleep(10);
  }
}

/** As a restarted sidecar reads it from the file. */
async function heldBy({ place }: World): Promise<Set<SessionKey>> {
  const plain = await place.open();
  const held = await listOf(plain);
  await plain.close();
  return new Set(held.map(({ key }) => key));
}

test('requests succeed while another process keeps the file locked, and are stored afterwards', async (t) => {
  const world = await start(t);
  const { place, store } = world;
  await claimAll(store, keysOf('before', 10));
  const lock = holdWriteLock(place);
  await claimAll(store, keysOf('locked', 10));
  assert.equal(store.health().failing, 'writes');
  const found = await store.lookup(keyOf('before-0'));
  assert.equal(typeof found, 'object');
  await store.delete(keyOf('before-1'), A);
  await claimAll(store, keysOf('still', 200));
  lock.release();
  await recovered(world);
  const held = await heldBy(world);
  assert.equal(held.size, 219);
  assert.equal(held.has(keyOf('before-1')), false);
});

/** One of our files, with only its first page intact. */
async function damagedFile(place: Place): Promise<Buffer> {
  const path = place.path('other.sqlite');
  const other = await place.open({ path });
  await claimAll(other, keysOf('other', 1_000));
  await other.close();
  return (await readFile(path)).fill(0xa5, 4_096);
}

test('a file that is replaced by a damaged one is created again, and filled from memory', async (t) => {
  const world = await start(t);
  const { place, store } = world;
  const several = keysOf('k', 2_000);
  await claimAll(store, several);
  const damaged = await damagedFile(place);
  // A store that is still flushing would create the file again before the damaged one is there.
  await recovered(world);
  for (const name of await readdir(place.directory)) await rm(place.path(name));
  await writeFile(place.path(), damaged);
  await claimAll(store, keysOf('after', 100));
  await recovered(world);
  const held = await heldBy(world);
  for (const key of [...several, ...keysOf('after', 100)]) assert.ok(held.has(key));
  const names = await readdir(place.directory);
  assert.ok(
    names.some((name) => name.includes('damaged')),
    names.join(', '),
  );
});

test('a file that disappears is created again, and filled from memory', async (t) => {
  const world = await start(t);
  const { place, store } = world;
  const several = keysOf('k', 500);
  await claimAll(store, several);
  for (const name of await readdir(place.directory)) await rm(place.path(name));
  await claimAll(store, keysOf('after', 100));
  await recovered(world);
  const held = await heldBy(world);
  for (const key of [...several, ...keysOf('after', 100)]) assert.ok(held.has(key));
  for (const key of several) assert.equal(typeof (await store.lookup(key)), 'object');
});
