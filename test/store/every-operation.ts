/** Each operation of a store once, with its expected result: for stores in which a fault occurs. */
import assert from 'node:assert/strict';
import type { Binding } from '../../src/session.ts';
import type { SessionStore } from '../../src/store/store.ts';
import { keyOf, machineId } from '../support/ids.ts';

const A = machineId('a1');
const B = machineId('b2');
const TTL_MS = 60_000;

/** `reader` is another store at the same place, with an empty cache. Leaves no bindings behind. */
export async function everyOperationWorks(
  store: SessionStore,
  reader: SessionStore,
): Promise<void> {
  const key = keyOf('every-operation');
  const binding = { key, machine: A, origin: 'learned', ttlMs: TTL_MS } as const;
  assert.equal((await store.claim(binding)).machine, A);
  assert.equal(await store.touch(key, 2 * TTL_MS), true);
  assert.equal(await store.expireWithin(key, TTL_MS), true);
  assert.equal((await store.rebind(key, A, B, 'adopted', TTL_MS))?.generation, 2);
  const stated = await store.upsert({ ...binding, machine: B, generation: 3 });
  assert.deepEqual([stated.machine, stated.generation], [B, 3]);
  const found = await reader.lookup(key);
  assert.equal(typeof found === 'string' ? found : found.generation, 3);
  assert.deepEqual(
    (await listOf(store)).map((each) => each.key),
    [key],
  );
  assert.equal((await store.getMetrics()).total, 1);
  assert.equal(await store.cleanup(), 0);
  assert.equal(await store.delete(key), true);
  assert.equal(await store.delete(key), false);
}

export async function listOf(store: SessionStore): Promise<Binding[]> {
  const listed: Binding[] = [];
  for await (const each of store.entries()) listed.push(each);
  return listed;
}
