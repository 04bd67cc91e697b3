/** Whether sessions live on this Machine, and how many, asked again and again while it drains. */
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

/**
 * Counts the sessions of this Machine by walking through the store; who asks meanwhile waits for the
 * walk under way. Undefined where the store can't say. Never rejects.
 */
export function createOwnSessionCount(
  store: Pick<SessionStore, 'entries'>,
  self: MachineId,
): () => Promise<number | undefined> {
  let counting: Promise<number | undefined> | undefined;

  const count = async (): Promise<number | undefined> => {
    let own = 0;
    try {
      for await (const { machine } of store.entries()) if (machine === self) own += 1;
      return own;
    } catch {
      // That the store fails is told where its operations are watched.
      return undefined;
    }
  };

  return () => (counting ??= count().finally(() => (counting = undefined)));
}
