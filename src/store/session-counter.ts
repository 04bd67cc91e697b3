/**
 * Counts the live sessions of this Machine in memory: a set of their keys, sorted into slots by
 * expiry. {@link createCountedStore} reports what this process writes and reads; a resync finds the rest.
 */
import type { Clock } from '../clock.ts';
import type { Binding, MachineId, SessionKey } from '../session.ts';
import { addCopiesTo, pagesOf } from './peer-pages.ts';
import type { Lookup, SessionStore } from './store.ts';

export interface SessionCounter {
  /**
   * Live sessions of this Machine, late by a six-hundredth of their time to live; at most twice the
   * limit.
   */
  count(): number;
  isFull(): boolean;
  /** The store holds this binding now, whichever Machine owns it. */
  note(binding: Binding): void;
  /** The session lives for `ttlMs` from now, or longer. */
  slide(key: SessionKey, ttlMs: number): void;
  /** The session ends in `ttlMs`, or earlier. */
  shorten(key: SessionKey, ttlMs: number): void;
  /** The session is gone, or another Machine owns it. */
  forget(key: SessionKey): void;
  /**
   * Starts a resync: every session of the store is noted from now on. Returns a function that ends
   * it: sessions that were not noted meanwhile are removed.
   */
  beginResync(): () => void;
}

interface SessionCounterOptions {
  readonly self: MachineId;
  readonly clock: Clock;
  /** This Machine is full with this many sessions. */
  readonly limit: number;
  readonly ttlMs: number;
  /** The maximum age of a binding, however often it slides; 0 for no bound. */
  readonly maxAgeMs: number;
}

/**
 * If every Machine is full, sessions are accepted all the same. Their keys are kept up to this
 * multiple.
 */
const KEPT_PER_LIMIT = 2;
/** The number of slots of a session's time to live: few to visit, and fine enough. */
const SLOTS_PER_TTL = 600;

interface Counted {
  slot: number;
  /** The end by maximum age: ms since the epoch. */
  readonly endsBy: number;
  /** The latest resync in which it was noted. */
  resync: number;
}

export function createSessionCounter(options: SessionCounterOptions): SessionCounter {
  return new SlottedCounter(options);
}

class SlottedCounter implements SessionCounter {
  readonly #options: SessionCounterOptions;
  readonly #slotMs: number;
  readonly #sessions = new Map<SessionKey, Counted>();
  readonly #slots = new Map<number, Set<SessionKey>>();
  #emptiedAt = -Infinity;
  #resync = 0;

  constructor(options: SessionCounterOptions) {
    this.#options = options;
    this.#slotMs = Math.max(1, Math.ceil(options.ttlMs / SLOTS_PER_TTL));
  }

  count(): number {
    this.#emptyPastSlots();
    return this.#sessions.size;
  }

  isFull(): boolean {
    return this.count() >= this.#options.limit;
  }

  note(binding: Binding): void {
    const { self, clock } = this.#options;
    const { key, machine, expiresAt } = binding;
    if (machine !== self || expiresAt <= clock.now()) {
      this.forget(key);
      return;
    }
    const counted = this.#sessions.get(key);
    if (counted) {
      counted.resync = this.#resync;
      this.#move(key, counted, this.#slotOf(expiresAt));
    } else this.#add(binding);
  }

  slide(key: SessionKey, ttlMs: number): void {
    const counted = this.#sessions.get(key);
    if (!counted) return;
    const expiresAt = Math.min(this.#options.clock.now() + ttlMs, counted.endsBy);
    this.#move(key, counted, Math.max(counted.slot, this.#slotOf(expiresAt)));
  }

  shorten(key: SessionKey, ttlMs: number): void {
    const counted = this.#sessions.get(key);
    if (!counted) return;
    const expiresAt = this.#options.clock.now() + ttlMs;
    this.#move(key, counted, Math.min(counted.slot, this.#slotOf(expiresAt)));
  }

  forget(key: SessionKey): void {
    const counted = this.#sessions.get(key);
    if (!counted) return;
    this.#sessions.delete(key);
    this.#leaveSlot(key, counted.slot);
  }

  beginResync(): () => void {
    this.#resync += 1;
    const begun = this.#resync;
    return () => {
      for (const [key, counted] of this.#sessions) if (counted.resync < begun) this.forget(key);
    };
  }

  /** A session above the bound is left out until a resync finds room for it. */
  #add({ key, createdAt, expiresAt }: Binding): void {
    const { limit, maxAgeMs } = this.#options;
    if (this.count() >= limit * KEPT_PER_LIMIT) return;
    const endsBy = maxAgeMs > 0 ? createdAt + maxAgeMs : Infinity;
    const slot = this.#slotOf(expiresAt);
    this.#sessions.set(key, { slot, endsBy, resync: this.#resync });
    this.#enterSlot(key, slot);
  }

  #move(key: SessionKey, counted: Counted, slot: number): void {
    if (slot === counted.slot) return;
    this.#leaveSlot(key, counted.slot);
    counted.slot = slot;
    this.#enterSlot(key, slot);
  }

  #enterSlot(key: SessionKey, slot: number): void {
    const keys = this.#slots.get(slot);
    if (keys) keys.add(key);
    else this.#slots.set(slot, new Set([key]));
  }

  #leaveSlot(key: SessionKey, slot: number): void {
    const keys = this.#slots.get(slot);
    keys?.delete(key);
    if (keys?.size === 0) this.#slots.delete(slot);
  }

  #slotOf(moment: number): number {
    return Math.floor(moment / this.#slotMs);
  }

  /** Advances once per slot; a single step for most calls. */
  #emptyPastSlots(): void {
    const current = this.#slotOf(this.#options.clock.now());
    if (current === this.#emptiedAt) return;
    this.#emptiedAt = current;
    for (const [slot, keys] of this.#slots) {
      if (slot >= current) continue;
      this.#slots.delete(slot);
      for (const key of keys) this.#sessions.delete(key);
    }
  }
}

type Listener = Pick<SessionCounter, 'note' | 'slide' | 'shorten' | 'forget'>;

/**
 * The request path, the peers and the admin port all write through this wrapper, so none is missed.
 */
export function createCountedStore(store: SessionStore, counter: Listener): SessionStore {
  const noted = <Found extends Lookup | undefined>(key: SessionKey, found: Found): Found => {
    if (typeof found === 'object') counter.note(found);
    else if (found !== 'unknown') counter.forget(key);
    return found;
  };
  const held = (binding: Binding): Binding => noted(binding.key, binding);

  return {
    kind: store.kind,
    // Not while the store fails: then the owners themselves are asked.
    get isShared() {
      return store.isShared;
    },
    lookup: (key) => {
      const found = store.lookup(key);
      return found instanceof Promise
        ? found.then((lookup) => noted(key, lookup))
        : noted(key, found);
    },
    reconnect: () => store.reconnect?.(),
    claim: async (binding) => held(await store.claim(binding)),
    upsert: async (binding) => held(await store.upsert(binding)),
    rebind: async (key, ...how) => noted(key, await store.rebind(key, ...how)),
    touch: async (key, ttlMs) => {
      const isThere = await store.touch(key, ttlMs);
      if (isThere) counter.slide(key, ttlMs);
      else counter.forget(key);
      return isThere;
    },
    expireWithin: async (key, ttlMs) => {
      const isThere = await store.expireWithin(key, ttlMs);
      if (isThere) counter.shorten(key, ttlMs);
      else counter.forget(key);
      return isThere;
    },
    delete: async (key, ifMachine) => {
      const isRemoved = await store.delete(key, ifMachine);
      if (isRemoved) counter.forget(key);
      return isRemoved;
    },
    cleanup: () => store.cleanup(),
    entries: () => store.entries(),
    pages: (owners) => pagesOf(store, owners),
    // None of the copies is a session of this Machine.
    addCopies: (copies) => addCopiesTo(store, copies),
    getMetrics: () => store.getMetrics(),
    close: () => store.close(),
  };
}

interface ResyncOptions {
  readonly clock: Clock;
  /** Random number from 0 to below 1: the Machines of a fleet must not all walk at once. */
  readonly random: () => number;
  /**
   * Whether a walk sees all bindings: not while memory replaces a store, or a store is being
   * refilled.
   */
  readonly isWhole: () => boolean;
}

/**
 * The order at shutdown: stop the schedule, close the store (which ends a walk in progress), wait
 * for it.
 */
export interface Resync {
  cancel(): void;
  ended(): Promise<void>;
}

/**
 * Requests report a session in use, and an unused one expires by itself: this is for the rest. In
 * ms.
 */
export const RESYNC_INTERVAL_MS = 900_000;
/** The pause after a walk that did not finish, in ms. */
export const RESYNC_RETRY_MS = 10_000;
const JITTER = 0.1;

/**
 * Walks through the store in the background, at the start and periodically, so that the counter
 * finds what this process has not seen: sessions from before its start, evictions, and sessions
 * that other Machines have taken over in a shared store.
 */
export function startResync(
  store: Pick<SessionStore, 'entries'>,
  counter: Pick<SessionCounter, 'note' | 'beginResync'>,
  { clock, random, isWhole }: ResyncOptions,
): Resync {
  const cancelled = new AbortController();
  const { signal } = cancelled;

  /** In strides: every store lets other work run while it lists its entries. */
  const resync = async (): Promise<'complete' | 'broken-off'> => {
    if (!isWhole()) return 'broken-off';
    const end = counter.beginResync();
    try {
      for await (const binding of store.entries()) {
        if (signal.aborted) return 'broken-off';
        counter.note(binding);
      }
    } catch {
      // The store's metrics report its failures; what was counted stays.
      return 'broken-off';
    }
    if (!isWhole()) return 'broken-off';
    end();
    return 'complete';
  };

  const resyncForever = async (): Promise<void> => {
    while (!signal.aborted) {
      const outcome = await resync();
      const waitMs = outcome === 'complete' ? RESYNC_INTERVAL_MS : RESYNC_RETRY_MS;
      await clock.sleep(waitMs * (1 + JITTER * random()), signal);
    }
  };

  const running = resyncForever();
  return { cancel: () => cancelled.abort(), ended: () => running };
}
