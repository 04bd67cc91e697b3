/**
 * The most recently read or written bindings, so that a session in use costs no read. It knows
 * nothing about other processes: `sqlite/reader.ts` says whether an entry is fresh for the file,
 * and `remote-store.ts` for a database that a fleet shares.
 */
import type { SessionKey } from '../session.ts';

/** An entry: a binding, or something that has one. */
interface Cached {
  readonly key: SessionKey;
  /** In ms since the epoch. */
  readonly expiresAt: number;
}

export interface HotCache<Item extends Cached> {
  /** The entry of the key, unless it has expired by `now`. */
  get(key: SessionKey, now: number): Item | undefined;
  set(item: Item): void;
  delete(key: SessionKey): void;
  /**
   * Forgets entries that have expired by `now`: visits this many entries at most, and continues
   * there the next time.
   */
  forgetExpired(now: number, maxLooked: number): void;
  clear(): void;
}

interface Entry<Item> {
  item: Item;
  /** Whether the entry was used since the hand last passed it ("visited" in SIEVE). */
  isUsed: boolean;
  /** The lap of the hand in which the entry was inserted. */
  readonly lap: number;
}

/** Bounds one insertion even if every entry is in use. */
const MAX_PASSED_OVER = 100;

/**
 * Evicts as SIEVE does (Zhang et al., NSDI 2024): a hand moves from the oldest entry to the newest,
 * spares the entries that were visited since its last pass, and evicts the others. So a hit is one
 * map lookup and moves nothing, and an entry read once is evicted before entries in use.
 */
export function createHotCache<Item extends Cached>(maxEntries: number): HotCache<Item> {
  const entries = new Map<SessionKey, Entry<Item>>();
  // Set only while the cache is full: an idle iterator keeps deleted entries of the map in memory.
  let hand: MapIterator<Entry<Item>> | undefined;
  /** How many entries come before the one at which the expiry scan continues. */
  let looked = 0;
  let lap = 0;
  let latest = -Infinity;

  const clear = (): void => {
    entries.clear();
    hand = undefined;
    looked = 0;
  };
  // A lap ends at the first entry that was inserted during it: that one has its chance to be used.
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
      // If the clock was set back, an entry that a clean-up removed as expired would be alive
      // again.
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
 * Visits `maxLooked` entries behind the first `skipped`. Returns how many to skip the next time; 0
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
