/** Whether a session lives on this Machine, asked again and again while it drains. */
import type { MachineId, SessionKey } from './affinity/session.ts';
import type { SessionStore } from './store/store.ts';

/**
 * Walks through the store only for as long as it finds no session of this Machine: the one it found
 * is looked up the next time, as a store that a fleet shares may hold a million of others. Rejects
 * never; a store that can't say does not hold an end up.
 */
export function createOwnSessionSearch(
  store: Pick<SessionStore, 'lookup' | 'entries'>,
  self: MachineId,
): () => Promise<boolean> {
  let lastFound: SessionKey | undefined;

  const isStillOurs = async (key: SessionKey): Promise<boolean> => {
    const found = await store.lookup(key);
    return typeof found === 'object' && found.machine === self;
  };
  const search = async (): Promise<boolean> => {
    for await (const { key, machine } of store.entries()) {
      if (machine !== self) continue;
      lastFound = key;
      return true;
    }
    return false;
  };

  return async () => {
    if (lastFound !== undefined && (await isStillOurs(lastFound))) return true;
    return search().catch(() => false);
  };
}
