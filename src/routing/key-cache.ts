/**
 * Remembers the keys of session ids: hashing is the costliest step of finding a known owner. Ids are
 * credentials: they are kept in memory alone, where the process has them in its buffers anyway.
 */
import { sessionKeyOf, detachedCopy, type SessionId, type SessionKey } from '../session.ts';

/**
 * Ids of each of two generations. The older one goes when the newer one is full. Together as many as
 * the store keeps bindings at hand, some 15 MB for as many sessions in use.
 */
const GENERATION = 50_000;

export function createKeyCache(): (id: SessionId) => SessionKey {
  let newer = new Map<SessionId, SessionKey>();
  let older = newer;
  return (id) => {
    let key = newer.get(id);
    if (key !== undefined) return key;
    key = older.get(id) ?? detachedCopy(sessionKeyOf(id));
    if (newer.size === GENERATION) {
      older = newer;
      newer = new Map();
    }
    newer.set(detachedCopy(id), key);
    return key;
  };
}
