/**
 * The bindings read or written within the last second, so that a busy session costs no read. Its
 * short memory bounds how long another process's write goes unseen.
 */
import type { Binding, SessionKey } from '../affinity/session.ts';

export interface HotCache {
  get(key: SessionKey, now: number): Binding | undefined;
  set(binding: Binding, now: number): void;
  delete(key: SessionKey): void;
  clear(): void;
}

interface Entry {
  readonly binding: Binding;
  /** A clock set back must not prolong the entry: it counts within these two moments only. */
  readonly from: number;
  readonly until: number;
}

/**
 * Two generations: when the young one is full it becomes the old one, and the old one is forgotten
 * as a whole. That is as good as least-recently-used for entries that live a second, and a hit
 * changes nothing.
 */
export function createHotCache(maxEntries: number, maxAgeMs: number): HotCache {
  let young = new Map<SessionKey, Entry>();
  let old = new Map<SessionKey, Entry>();
  return {
    get: (key, now) => {
      const entry = young.get(key) ?? old.get(key);
      return entry !== undefined && now >= entry.from && now < entry.until
        ? entry.binding
        : undefined;
    },
    set: (binding, now) => {
      if (young.size >= maxEntries / 2) {
        old = young;
        young = new Map();
      }
      const until = Math.min(now + maxAgeMs, binding.expiresAt);
      young.set(binding.key, { binding, from: now, until });
    },
    delete: (key) => {
      young.delete(key);
      old.delete(key);
    },
    clear: () => {
      young.clear();
      old.clear();
    },
  };
}
