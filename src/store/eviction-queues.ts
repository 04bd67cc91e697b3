/** Bindings in memory, and their order of eviction. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Binding, BindingOrigin, SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import { adoptedCap, EVICTION_ORDER, PAGE_BINDINGS } from './store.ts';

/**
 * The bindings by origin, in each queue the least recently written first: a map keeps the order of
 * insertion, so the next one to evict is found at once.
 */
export interface EvictionQueues {
  find(key: SessionKey): Binding | undefined;
  /**
   * Replaces the binding in place; with `moved`, moves the current binding to the end of its queue:
   * it was used.
   */
  put(binding: Binding, moved: Binding | undefined): void;
  remove(key: SessionKey): void;
  /** Returns how many were removed, `count` at most. */
  removeOldest(origin: BindingOrigin, count: number): number;
  count(origin?: BindingOrigin): number;
  /** All current keys: keys written during a walk are neither visited twice nor walked for ever. */
  keys(): SessionKey[];
  clear(): void;
}

export function createEvictionQueues(): EvictionQueues {
  const learned = new Map<SessionKey, Binding>();
  const adopted = new Map<SessionKey, Binding>();
  const copied = new Map<SessionKey, Binding>();
  const byOrigin = { learned, adopted, copied };
  const all = [learned, adopted, copied];
  const remove = (key: SessionKey): void => {
    for (const queue of all) queue.delete(key);
  };
  return {
    find: (key) => learned.get(key) ?? adopted.get(key) ?? copied.get(key),
    put: (binding, moved) => {
      if (moved) byOrigin[moved.origin].delete(moved.key);
      byOrigin[binding.origin].set(binding.key, binding);
    },
    remove,
    removeOldest: (origin, count) => {
      const queue = byOrigin[origin];
      const countBefore = queue.size;
      for (const key of queue.keys()) {
        if (countBefore - queue.size >= count) break;
        queue.delete(key);
      }
      return countBefore - queue.size;
    },
    count: (origin) =>
      origin === undefined ? learned.size + adopted.size + copied.size : byOrigin[origin].size,
    keys: () => all.flatMap((queue) => [...queue.keys()]),
    clear: () => {
      for (const queue of all) queue.clear();
    },
  };
}

/**
 * The part of a bound by which writes may exceed it. Finding the oldest entry of a map means
 * stepping over those deleted before it, which is cheap only for many at once.
 */
const SLACK = 1 / 100;

/** A bound that was lowered far is reached in several steps, so that none blocks the event loop. */
const MAX_EVICTED_AT_ONCE = 20_000;

/**
 * Evicts down to the bounds, or a part of the way; `roughly`: only once they are exceeded by one
 * percent. Returns the number evicted.
 */
export function evictExcess(
  queues: EvictionQueues,
  maxSessions: number,
  precision: 'exactly' | 'roughly',
): number {
  const slack = precision === 'exactly' ? 0 : SLACK;
  const maxAdopted = adoptedCap(maxSessions);
  const adoptedExcess = queues.count('adopted') - maxAdopted;
  let removed = 0;
  if (adoptedExcess > Math.floor(maxAdopted * slack)) {
    removed += queues.removeOldest('adopted', Math.min(adoptedExcess, MAX_EVICTED_AT_ONCE));
  }
  const excess = queues.count() - maxSessions;
  if (excess <= Math.floor(maxSessions * slack)) return removed;
  let left = Math.min(excess, MAX_EVICTED_AT_ONCE);
  for (const origin of EVICTION_ORDER) {
    const gone = queues.removeOldest(origin, left);
    removed += gone;
    left -= gone;
  }
  return removed;
}

/** Evicts down to the bounds exactly, and lets the event loop run in between. */
export async function evictAllExcess(queues: EvictionQueues, maxSessions: number): Promise<number> {
  let total = 0;
  for (;;) {
    const evicted = evictExcess(queues, maxSessions, 'exactly');
    if (evicted === 0) return total;
    total += evicted;
    await nextTurn();
  }
}

/** Returns how many had expired. */
export async function removeExpired(queues: EvictionQueues, clock: Clock): Promise<number> {
  let removed = 0;
  await visitAll(queues, ({ key, expiresAt }) => {
    if (expiresAt > clock.now()) return;
    queues.remove(key);
    removed += 1;
  });
  return removed;
}

/** A walk over a million bindings lets the event loop run after this many. */
const STRIDE = 5_000;

/**
 * Visits what existed at the start and still exists when its turn comes, expired or not: the first
 * ones at once.
 */
export async function visitAll(
  queues: EvictionQueues,
  visit: (binding: Binding) => void,
): Promise<void> {
  const keys = queues.keys();
  for (let start = 0; start < keys.length; start += STRIDE) {
    if (start > 0) await nextTurn();
    for (const key of keys.slice(start, start + STRIDE)) {
      const binding = queues.find(key);
      if (binding) visit(binding);
    }
  }
}

/** What existed at the start, in pages; between two pages the event loop may run. */
export function* walkInPages(
  queues: EvictionQueues,
  matches: (binding: Binding) => boolean,
): Generator<readonly Binding[]> {
  const keys = queues.keys();
  let page: Binding[] = [];
  for (const [index, key] of keys.entries()) {
    const binding = queues.find(key);
    if (binding && matches(binding)) page.push(binding);
    const isOver = page.length === PAGE_BINDINGS || (index + 1) % STRIDE === 0;
    if (!isOver) continue;
    yield page;
    page = [];
  }
  yield page;
}

/** As `visitAll`, for a reader with its own pace. */
export async function* walk(queues: EvictionQueues): AsyncGenerator<Binding> {
  for (const [index, key] of queues.keys().entries()) {
    if (index % STRIDE === 0) await nextTurn();
    const binding = queues.find(key);
    if (binding) yield binding;
  }
}
