/**
 * The bindings read or written last, so that a session in use costs no read. It knows nothing of
 * other processes: whether what it holds may be believed, `sqlite-freshness.ts` tells.
 */
import type { Binding, SessionKey } from '../affinity/session.ts';

export interface HotCache {
  /** What is held of the key, unless it has expired by `now`. */
  get(key: SessionKey, now: number): Binding | undefined;
  set(binding: Binding): void;
  delete(key: SessionKey): void;
  clear(): void;
}

interface Entry {
  binding: Binding;
  /** Since the hand came by. */
  isUsed: boolean;
}

/** So that one insertion is short though every entry is in use. */
const MAX_PASSED_OVER = 100;

/**
 * Makes room as SIEVE does (Zhang et al., NSDI 2024): a hand goes round from the oldest entry to
 * the newest, spares what was used since it came by last, and removes what was not. So a hit is
 * one look into the map and moves nothing, and what is asked for once goes before what is used.
 */
export function createHotCache(maxEntries: number): HotCache {
  const entries = new Map<SessionKey, Entry>();
  // Only while the cache is full: an iterator that stands still keeps what the map has let go.
  let hand: MapIterator<Entry> | undefined;
  let latest = -Infinity;

  const clear = (): void => {
    entries.clear();
    hand = undefined;
  };
  const nextUnderHand = (): Entry | undefined => {
    const next = hand?.next();
    if (next?.done === false) return next.value;
    hand = entries.values();
    return hand.next().value;
  };
  const makeRoom = (): void => {
    let entry = nextUnderHand();
    for (let passed = 0; entry?.isUsed === true && passed < MAX_PASSED_OVER; passed += 1) {
      entry.isUsed = false;
      entry = nextUnderHand();
    }
    if (entry) entries.delete(entry.binding.key);
  };

  return {
    get: (key, now) => {
      // After a clock was set back, what a clean-up has removed as expired would be alive again.
      if (now < latest) clear();
      latest = now;
      const entry = entries.get(key);
      if (entry === undefined || entry.binding.expiresAt <= now) return undefined;
      entry.isUsed = true;
      return entry.binding;
    },
    set: (binding) => {
      const entry = entries.get(binding.key);
      if (entry) {
        entry.binding = binding;
        return;
      }
      if (entries.size >= maxEntries) makeRoom();
      entries.set(binding.key, { binding, isUsed: false });
    },
    delete: (key) => void entries.delete(key),
    clear,
  };
}
