/**
 * The store in memory: for tests, for `memory:`, and in place of a file that can't be had. It
 * forgets everything with the process. Writes keep it within its bounds and one percent.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Binding, BindingOrigin, SessionKey } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';
import { applyWrite } from './rules.ts';
import type { Outcome, Write } from './rules.ts';
import { adoptedCap, EVICTION_ORDER, StoreError } from './store.ts';
import type { LocalStore, StoreLimits, StoreMetrics } from './store.ts';
import { createStoreCounters, createWriteMethods } from './write-methods.ts';
import type { StoreCounters } from './write-methods.ts';

/** A walk over a million bindings lets the event loop turn after each so many. */
const STRIDE = 5_000;

/**
 * The part of a bound by which writes may exceed it. Finding the oldest entry of a map means
 * stepping over those deleted before it, which is cheap only for many at once.
 */
const SLACK = 1 / 100;

export function createMemoryStore(options: { clock: Clock; limits: StoreLimits }): LocalStore {
  const { clock, limits } = options;
  const shelves = createShelves();
  const counters = createStoreCounters();
  let isClosed = false;

  const assertOpen = (): void => {
    if (isClosed) throw new StoreError('closed', 'the session store is closed');
  };
  const perform = (write: Write): Outcome => {
    assertOpen();
    const found = shelves.find(write.key);
    const outcome = applyWrite(write, found, limits.maxAgeMs);
    if (outcome.after === undefined) shelves.remove(write.key);
    else if (outcome.after !== found) {
      shelves.put(outcome.after, write.kind !== 'expireWithin');
      evictExcess(shelves, limits.maxSessions, SLACK);
    }
    return outcome;
  };

  return {
    kind: 'memory',
    isShared: false,
    lookup: (key) => {
      if (isClosed) return 'unknown';
      counters.lookups += 1;
      const found = shelves.find(key);
      return found && found.expiresAt > clock.now() ? found : 'absent';
    },
    ...createWriteMethods(clock, counters, perform),
    cleanup: async () => {
      assertOpen();
      const expired = await removeExpired(shelves, clock);
      counters.lastCleanupAt = clock.now();
      return expired + evictExcess(shelves, limits.maxSessions, 0);
    },
    entries: async function* () {
      assertOpen();
      for (const [index, key] of shelves.keys().entries()) {
        if (index % STRIDE === 0) await nextTurn();
        assertOpen();
        const binding = shelves.find(key);
        if (binding && binding.expiresAt > clock.now()) yield binding;
      }
    },
    getMetrics: async () => {
      assertOpen();
      return measure(shelves, counters, clock);
    },
    close: () => {
      isClosed = true;
      shelves.clear();
      return Promise.resolve();
    },
  };
}

/**
 * The bindings by origin, on each shelf the least recently written first: a map keeps the order of
 * insertion, so the next to be evicted is found at once.
 */
interface Shelves {
  find(key: SessionKey): Binding | undefined;
  /** A use moves a binding behind all others of its shelf. */
  put(binding: Binding, isUse: boolean): void;
  remove(key: SessionKey): void;
  /** Returns how many there were to remove, `count` at most. */
  removeOldest(origin: BindingOrigin, count: number): number;
  count(origin?: BindingOrigin): number;
  /** All keys as they are now: what is written during a walk is neither seen twice nor walked for ever. */
  keys(): SessionKey[];
  clear(): void;
}

function createShelves(): Shelves {
  const learned = new Map<SessionKey, Binding>();
  const adopted = new Map<SessionKey, Binding>();
  const copied = new Map<SessionKey, Binding>();
  const byOrigin = { learned, adopted, copied };
  const all = [learned, adopted, copied];
  const remove = (key: SessionKey): void => {
    for (const shelf of all) shelf.delete(key);
  };
  return {
    find: (key) => learned.get(key) ?? adopted.get(key) ?? copied.get(key),
    put: (binding, isUse) => {
      if (isUse) remove(binding.key);
      byOrigin[binding.origin].set(binding.key, binding);
    },
    remove,
    removeOldest: (origin, count) => {
      const shelf = byOrigin[origin];
      const countBefore = shelf.size;
      for (const key of shelf.keys()) {
        if (countBefore - shelf.size >= count) break;
        shelf.delete(key);
      }
      return countBefore - shelf.size;
    },
    count: (origin) =>
      origin === undefined ? learned.size + adopted.size + copied.size : byOrigin[origin].size,
    keys: () => all.flatMap((shelf) => [...shelf.keys()]),
    clear: () => {
      for (const shelf of all) shelf.clear();
    },
  };
}

/** Down to the bounds once they are exceeded by more than `slack`; returns how many had to go. */
function evictExcess(shelves: Shelves, maxSessions: number, slack: number): number {
  const maxAdopted = adoptedCap(maxSessions);
  const adoptedExcess = shelves.count('adopted') - maxAdopted;
  let removed = 0;
  if (adoptedExcess > Math.floor(maxAdopted * slack)) {
    removed += shelves.removeOldest('adopted', adoptedExcess);
  }
  const excess = shelves.count() - maxSessions;
  if (excess <= Math.floor(maxSessions * slack)) return removed;
  let left = excess;
  for (const origin of EVICTION_ORDER) left -= shelves.removeOldest(origin, left);
  return removed + excess - left;
}

async function removeExpired(shelves: Shelves, clock: Clock): Promise<number> {
  let removed = 0;
  await walk(shelves, (binding) => {
    if (binding.expiresAt > clock.now()) return;
    shelves.remove(binding.key);
    removed += 1;
  });
  return removed;
}

async function measure(
  shelves: Shelves,
  counters: StoreCounters,
  clock: Clock,
): Promise<StoreMetrics> {
  let expired = 0;
  await walk(shelves, (binding) => {
    if (binding.expiresAt <= clock.now()) expired += 1;
  });
  return { total: shelves.count(), expired, sizeBytes: 0, ...counters };
}

/** Visits what was there at the start and still is when its turn comes. */
async function walk(shelves: Shelves, visit: (binding: Binding) => void): Promise<void> {
  const keys = shelves.keys();
  for (let start = 0; start < keys.length; start += STRIDE) {
    if (start > 0) await nextTurn();
    for (const key of keys.slice(start, start + STRIDE)) {
      const binding = shelves.find(key);
      if (binding) visit(binding);
    }
  }
}
