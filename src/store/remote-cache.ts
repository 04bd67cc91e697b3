/**
 * What a database that a fleet shares has said lately, so that a session in use costs no round trip:
 *
 *     read ─ held, said within the last second ─> answered from here
 *          └ else ─> asked; kept, unless a write of this key has begun or ended meanwhile
 *     write ─ begins ─> what is held of the key is forgotten, and nothing is kept until it has ended
 *           └ ends ──> what it left behind is kept
 *
 * So what this process writes is seen by it at once, and what others change within a second. Until
 * then a stale owner costs one more hop: the Machine that it names knows better. What is absent is
 * never held, for a session that another Machine has just bound must be found.
 */
import type { Binding, SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import { createHotCache } from './hot-cache.ts';

export interface RemoteCache {
  /** What may be believed of the key without asking. */
  get(key: SessionKey): Binding | undefined;
  /** To be called when the question goes out; the result takes the answer. */
  beginRead(key: SessionKey): (answer: Binding | 'absent') => void;
  /** To be called when the write is called; the result takes what it left, `unknown` if it failed. */
  beginWrite(key: SessionKey): (after: Binding | 'absent' | 'unknown') => void;
  /** Whether a write of the key has begun and not ended. */
  isWriting(key: SessionKey): boolean;
  /** Forgets the key, and believes no answer to what was asked of it before. */
  delete(key: SessionKey): void;
  /** The same for all keys. */
  clear(): void;
}

/** What another process wrote is seen within that time. */
const MAX_UNSEEN_MS = 1_000;

interface Held {
  readonly key: SessionKey;
  readonly binding: Binding;
  /** Until when it may be believed. */
  readonly expiresAt: number;
}

export function createRemoteCache(clock: Clock, maxEntries: number): RemoteCache {
  const held = createHotCache<Held>(maxEntries);
  /** How many writes of a key are under way. */
  const writing = new Map<SessionKey, number>();
  /** The reads under way that something has crossed: what they bring may be older than that. */
  const crossed = new Set<object>();
  const reading = new Map<SessionKey, Set<object>>();

  /** What was said may be as old as the question. */
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
      return (answer) => {
        ofKey.delete(read);
        if (ofKey.size === 0 && reading.get(key) === ofKey) reading.delete(key);
        if (!crossed.delete(read) && answer !== 'absent') keep(answer, askedAt);
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
