/**
 * Remembers the keys of session ids: hashing is the costliest step of finding a known owner. Ids are
 * credentials, so few are kept, in memory alone; the process has them in its buffers anyway.
 */
import { sessionKeyOf, type SessionId, type SessionKey } from './session.ts';

/** Ids of each of two generations. The older one goes when the newer one is full. */
const GENERATION = 2_048;

export function createKeyCache(): (id: SessionId) => SessionKey {
  let newer = new Map<SessionId, SessionKey>();
  let older = newer;
  return (id) => {
    let key = newer.get(id);
    if (key !== undefined) return key;
    key = older.get(id) ?? sessionKeyOf(id);
    if (newer.size === GENERATION) {
      older = newer;
      newer = new Map();
    }
    newer.set(id, key);
    return key;
  };
}
