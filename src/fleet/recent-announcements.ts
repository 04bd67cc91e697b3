/**
 * What this Machine has announced lately. A Machine that comes onto the list was not told, and may have
 * claimed the same keys meanwhile: two that start together do not list each other at first.
 */
import type { SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import type { Claim } from './messages.ts';

export interface Announcement {
  readonly claim: Claim;
  /** Monotonic time at which the claim ends, in ms. */
  readonly endsAtMs: number;
}

export interface RecentAnnouncements {
  add(key: SessionKey, announcement: Announcement): void;
  delete(key: SessionKey): void;
  /** The oldest first. */
  entries(): Iterable<readonly [SessionKey, Announcement]>;
}

/** Far longer than directories differ, which are read every few seconds. */
const REMEMBERED_MS = 60_000;
/** Beyond it the oldest is forgotten. */
const MAX_REMEMBERED = 16_384;

export function createRecentAnnouncements(clock: Pick<Clock, 'monotonicMs'>): RecentAnnouncements {
  /** The oldest comes first. */
  const recent = new Map<SessionKey, Announcement & { readonly atMs: number }>();

  const forgetOld = (): void => {
    const oldestMs = clock.monotonicMs() - REMEMBERED_MS;
    for (const [key, { atMs }] of recent) {
      if (atMs > oldestMs && recent.size <= MAX_REMEMBERED) return;
      recent.delete(key);
    }
  };

  return {
    add: (key, announcement) => {
      recent.delete(key);
      recent.set(key, { ...announcement, atMs: clock.monotonicMs() });
      forgetOld();
    },
    delete: (key) => void recent.delete(key),
    entries: () => {
      forgetOld();
      return recent;
    },
  };
}
