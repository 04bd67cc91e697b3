/** Sessions by their names, for tests of what becomes of a store. */
import type { Binding, SessionKey } from '../../src/session.ts';
import type { LocalStore, SessionStore } from '../../src/store/store.ts';
import { keyOf, machineId } from '../support/ids.ts';

/** Longer than any test. */
const TTL_MS = 3_600_000;

export function claim(
  store: SessionStore,
  name: string,
  machine = machineId('a1'),
): Promise<Binding> {
  return store.claim({ key: keyOf(name), machine, origin: 'learned', ttlMs: TTL_MS });
}

/** The Machine, or why there is none. */
export function ownerOf(store: LocalStore, name: string): string {
  const found = store.lookup(keyOf(name));
  return typeof found === 'string' ? found : found.machine;
}

/** The same of any store. */
export async function ownerIn(store: SessionStore, key: SessionKey): Promise<string> {
  const found = await store.lookup(key);
  return typeof found === 'string' ? found : found.machine;
}
