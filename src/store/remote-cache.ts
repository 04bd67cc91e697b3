/**
 * A cache in front of a database that a fleet shares, so that a session in use costs no round trip.
 *
 *     read ─ cached within the last second ─> served from the cache
 *          └ else ─> query; cached, unless a write of this key overlaps it
 *     write ─ begins ─> the key is forgotten, and not cached until the write ends
 *           └ ends ──> its result is cached
 *
 * So this process sees its own writes at once, and changes by others within a second. Until then a
 * stale owner costs one more hop: the Machine that it names knows better. An absent key is never
 * cached, because a session that another Machine has just bound must be found.
 */
import type { Binding, SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import { createHotCache } from './hot-cache.ts';

export interface RemoteCache {
  /** The cached binding, if it is fresh enough to use without a query. */
  get(key: SessionKey): Binding | undefined;
  /** Call it when the query is sent; the returned function takes the response. */
  beginRead(key: SessionKey): (response: Binding | 'absent') => void;
  /**
   * Call it when the write starts; the returned function takes what the write left, `unknown` if it
   * failed.
   */
  beginWrite(key: SessionKey): (after: Binding | 'absent' | 'unknown') => void;
  /** Whether a write of the key is in flight. */
  isWriting(key: SessionKey): boolean;
  /** Forgets the key, and ignores the responses to queries that were sent before. */
  delete(key: SessionKey): void;
  /** The same for all keys. */
  clear(): void;
}

/** What another process writes is visible within this time. */
const MAX_UNSEEN_MS = 1_000;

interface Held {
  readonly key: SessionKey;
  readonly binding: Binding;
  /** The entry is fresh until then. */
  readonly expiresAt: number;
}

export function createRemoteCache(clock: Clock, maxEntries: number): RemoteCache {
  const held = createHotCache<Held>(maxEntries);
  /** The number of writes of a key in flight. */
  const writing = new Map<SessionKey, number>();
  /**
   * The reads in flight that a write or a `forget` has overlapped: their results may be older than
   * it.
   */
  const crossed = new Set<object>();
  const reading = new Map<SessionKey, Set<object>>();

  /** The response may be as old as the query. */
  const keep = (binding: Binding, askedAt: number): void => {
    const { key } = binding;
    const expiresAt = Math.min(binding.expiresAt, askedAt + MAX_UNSEEN_MS);
    held.set({ key, binding, expiresAt });
  };
  const cross = (key: SessionKey): void => {
    for (const read of reading.get(key) ?? []) crossed.add(read);
  };

  return {
    get: (key) => held.get(key, clock.now())?.binding,
    beginRead: (key) => {
      const read = {};
      const askedAt = clock.now();
      if (writing.has(key)) crossed.add(read);
      const ofKey = reading.get(key) ?? new Set();
      reading.set(key, ofKey.add(read));
      return (response) => {
        ofKey.delete(read);
        if (ofKey.size === 0 && reading.get(key) === ofKey) reading.delete(key);
        if (!crossed.delete(read) && response !== 'absent') keep(response, askedAt);
      };
    },
    beginWrite: (key) => {
      const askedAt = clock.now();
      held.delete(key);
      cross(key);
      writing.set(key, (writing.get(key) ?? 0) + 1);
      return (after) => {
        const left = (writing.get(key) ?? 1) - 1;
        cross(key);
        if (left > 0) {
          writing.set(key, left);
          return;
        }
        writing.delete(key);
        if (typeof after === 'string') held.delete(key);
        else keep(after, askedAt);
      };
    },
    isWriting: (key) => writing.has(key),
    delete: (key) => {
      held.delete(key);
      cross(key);
    },
    clear: () => {
      held.clear();
      for (const key of reading.keys()) cross(key);
    },
  };
}
