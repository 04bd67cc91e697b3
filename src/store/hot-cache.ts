/**
 * The bindings read or written last, so that a session in use costs no read. It knows nothing of
 * other processes: whether what it holds may be believed, `sqlite/freshness.ts` tells for the file,
 * and `remote-cache.ts` for a database that a fleet shares.
 */
import type { SessionKey } from '../session.ts';

/** What is held: a binding, or something that has one. */
export interface Cached {
  readonly key: SessionKey;
  /** In ms since the epoch. */
  readonly expiresAt: number;
}

export interface HotCache<Item extends Cached> {
  /** What is held of the key, unless it has expired by `now`. */
  get(key: SessionKey, now: number): Item | undefined;
  set(item: Item): void;
  delete(key: SessionKey): void;
  /** Forgets what has expired by `now`: looks at so many entries at most, and goes on there the next time. */
  forgetExpired(now: number, maxLooked: number): void;
  clear(): void;
}

interface Entry<Item> {
  item: Item;
  /** Since the hand came by. */
  isUsed: boolean;
  /** Of the hand, in which it came. */
  readonly lap: number;
}

/** So that one insertion is short though every entry is in use. */
const MAX_PASSED_OVER = 100;

/**
 * Makes room as SIEVE does (Zhang et al., NSDI 2024): a hand goes round from the oldest entry to
 * the newest, spares what was used since it came by last, and removes what was not. So a hit is
 * one look into the map and moves nothing, and what is asked for once goes before what is used.
 */
export function createHotCache<Item extends Cached>(maxEntries: number): HotCache<Item> {
  const entries = new Map<SessionKey, Entry<Item>>();
  // Only while the cache is full: an iterator that stands still keeps what the map has let go.
  let hand: MapIterator<Entry<Item>> | undefined;
  /** How many entries come before the one at which the looking for what has expired goes on. */
  let looked = 0;
  let lap = 0;
  let latest = -Infinity;

  const clear = (): void => {
    entries.clear();
    hand = undefined;
    looked = 0;
  };
  // A lap ends where it has come to what was not there when it began: that has its chance to be used.
  const nextUnderHand = (): Entry<Item> | undefined => {
    const next = hand?.next();
    if (next?.done === false && next.value.lap < lap) return next.value;
    hand = entries.values();
    lap += 1;
    return hand.next().value;
  };
  const makeRoom = (): void => {
    let entry = nextUnderHand();
    for (let passed = 0; entry?.isUsed === true && passed < MAX_PASSED_OVER; passed += 1) {
      entry.isUsed = false;
      entry = nextUnderHand();
    }
    if (entry) entries.delete(entry.item.key);
  };

  return {
    get: (key, now) => {
      // After a clock was set back, what a clean-up has removed as expired would be alive again.
      if (now < latest) clear();
      latest = now;
      const entry = entries.get(key);
      if (entry === undefined || entry.item.expiresAt <= now) return undefined;
      entry.isUsed = true;
      return entry.item;
    },
    set: (item) => {
      const entry = entries.get(item.key);
      if (entry) {
        entry.item = item;
        return;
      }
      if (entries.size >= maxEntries) makeRoom();
      entries.set(item.key, { item, isUsed: false, lap });
    },
    delete: (key) => void entries.delete(key),
    forgetExpired: (now, maxLooked) => {
      looked = removeExpired(entries, now, looked, maxLooked);
    },
    clear,
  };
}

/**
 * Looks at `maxLooked` entries behind the first `skipped`. Returns how many to skip the next time; 0
 * after the last entry.
 */
function removeExpired<Item extends Cached>(
  entries: Map<SessionKey, Entry<Item>>,
  now: number,
  skipped: number,
  maxLooked: number,
): number {
  let place = 0;
  let kept = 0;
  for (const { item } of entries.values()) {
    place += 1;
    if (place <= skipped) continue;
    if (place > skipped + maxLooked) return skipped + kept;
    if (item.expiresAt <= now) entries.delete(item.key);
    else kept += 1;
  }
  return 0;
}
