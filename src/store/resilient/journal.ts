/**
 * The outbox on disk, for shared stores: pending changes of this Machine survive a restart, in a
 * store on the Machine itself.
 *
 *     unopened ─ opened ─> durable ─ fails, or is slow ─> not durable: tried again after growing pauses
 *
 * Best effort: if it fails, a pending change is safe as long as the process lives, and nothing else
 * changes. A Machine has no copies of its own bindings, so a copy of one in the journal represents
 * a removal.
 */
import type { Clock } from '../../clock.ts';
import { createCircuitBreaker } from '../../resilience.ts';
import type { Binding, MachineId, SessionKey } from '../../session.ts';
import type { SessionStore, StatedBinding } from '../store.ts';
import { withinTime } from '../time-limit.ts';
import { changeToBinding, changeToRemoval, type PendingChange } from './pending-change.ts';

export interface Journal {
  /** Whether a change accepted now survives a restart. */
  readonly isDurable: boolean;
  /** Opens it and returns the changes left from before. Never rejects. */
  load(take: (key: SessionKey, change: PendingChange) => void): Promise<void>;
  /** Resolves once the change is written, or can't be. Never rejects. */
  keep(key: SessionKey, change: PendingChange): Promise<void>;
  erase(key: SessionKey): Promise<void>;
  /** Erases rows that could not be erased before, and expired ones. */
  tidy(): Promise<void>;
  close(): Promise<void>;
}

interface JournalOptions {
  readonly self: MachineId;
  readonly clock: Clock;
  readonly random: () => number;
  readonly open: () => Promise<SessionStore>;
  /** The maximum number of changes returned from before a restart. */
  readonly maxKeys: number;
  /** Called when it begins to fail, not for every failure. */
  readonly onError: (error: unknown) => void;
}

/** How long a response waits for it, after it has waited for the store itself. */
const LIMIT_MS = 500;
const FIRST_PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 30_000;
const MAX_TIDIED_AT_ONCE = 1_000;

/** For a store that needs no journal: a store on this Machine has a file of its own. */
export const NO_JOURNAL: Journal = {
  isDurable: false,
  load: () => Promise.resolve(),
  keep: () => Promise.resolve(),
  erase: () => Promise.resolve(),
  tidy: () => Promise.resolve(),
  close: () => Promise.resolve(),
};

export function createJournal(options: JournalOptions): Journal {
  return new StoredJournal(options);
}

class StoredJournal implements Journal {
  readonly #options: JournalOptions;
  readonly #breaker;
  /**
   * The keys that may have a row, each with the latest change for it; undefined: from before the
   * start.
   */
  readonly #kept = new Map<SessionKey, Binding | undefined>();
  /** Of these, the keys that should have no row any more. */
  readonly #outdated = new Set<SessionKey>();
  #store: SessionStore | undefined;
  #isClosed = false;

  constructor(options: JournalOptions) {
    const { clock, random } = options;
    const pauses = { openMs: FIRST_PAUSE_MS, maxOpenMs: MAX_PAUSE_MS };
    this.#options = options;
    this.#breaker = createCircuitBreaker({ failureThreshold: 1, ...pauses, clock, random });
  }

  get isDurable(): boolean {
    return this.#store !== undefined && this.#breaker.state().kind === 'closed';
  }

  async load(take: (key: SessionKey, change: PendingChange) => void): Promise<void> {
    let store: SessionStore | undefined;
    try {
      store = await this.#options.open();
      await this.#takeRows(store, take);
      if (!this.#isClosed) this.#store = store;
    } catch (error) {
      this.#options.onError(error);
    }
    if (this.#store === undefined) await store?.close();
  }

  async keep(key: SessionKey, change: PendingChange): Promise<void> {
    const row = this.#rowOf(key, change);
    if (row === undefined) return this.erase(key);
    this.#outdated.delete(key);
    await this.#attempt((store) => this.#put(store, row));
  }

  async erase(key: SessionKey): Promise<void> {
    if (!this.#kept.has(key)) return;
    this.#outdated.add(key);
    await this.#attempt((store) => this.#eraseFrom(store, key));
  }

  async tidy(): Promise<void> {
    await this.#attempt(async (store) => {
      const oldest = [...this.#outdated].slice(0, MAX_TIDIED_AT_ONCE);
      await Promise.all(oldest.map((key) => this.#eraseFrom(store, key)));
      await store.cleanup();
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#store?.close();
  }

  async #takeRows(
    store: SessionStore,
    take: (key: SessionKey, change: PendingChange) => void,
  ): Promise<void> {
    const { self, maxKeys } = this.#options;
    for await (const row of store.entries()) {
      if (this.#isClosed || this.#kept.size >= maxKeys) return;
      // A file that was the store itself has bindings of other Machines too.
      if (row.machine !== self) continue;
      this.#kept.set(row.key, undefined);
      take(row.key, row.origin === 'copied' ? changeToRemoval(row) : changeToBinding(row));
    }
  }

  /**
   * Two writes of one key can't share a commit, so nothing is removed where no row is expected: the
   * file takes twice as many new sessions a second.
   */
  async #put(store: SessionStore, row: Binding): Promise<void> {
    const { key } = row;
    const mayHaveRow = this.#kept.has(key);
    this.#kept.set(key, row);
    if (!mayHaveRow) {
      const held = await store.upsert(this.#stated(row));
      // A file that was the store itself may have another Machine's row there.
      if (isTheSame(held, row) || this.#kept.get(key) !== row) return;
    }
    // Replaces any row there, even one of a higher generation.
    await Promise.all([store.delete(key), store.upsert(this.#stated(row))]);
  }

  #stated(row: Binding): StatedBinding {
    return { ...row, ttlMs: row.expiresAt - this.#options.clock.now() };
  }

  async #eraseFrom(store: SessionStore, key: SessionKey): Promise<void> {
    await store.delete(key);
    // Unless it is written again meanwhile.
    if (this.#outdated.delete(key)) this.#kept.delete(key);
  }

  /** Only what this Machine owns, or has removed: other Machines journal their own. */
  #rowOf(key: SessionKey, { then, removed, until }: PendingChange): Binding | undefined {
    const { self, clock } = this.#options;
    if (then.kind === 'bind') {
      const { binding } = then;
      return binding.machine === self && binding.origin !== 'copied' ? binding : undefined;
    }
    const isOfOurs = then.kind === 'nothing' && removed !== 'any' && removed.includes(self);
    if (!isOfOurs) return undefined;
    const createdAt = clock.now();
    const tombstone = { machine: self, origin: 'copied', generation: 1 } as const;
    return { key, ...tombstone, createdAt, expiresAt: until };
  }

  async #attempt(work: (store: SessionStore) => Promise<void>): Promise<void> {
    const { clock, onError } = this.#options;
    const store = this.#store;
    const attempt = store && this.#breaker.begin();
    if (!attempt) return;
    try {
      await withinTime(clock, LIMIT_MS, work(store), 'the journal of the session store');
      attempt.succeeded();
    } catch (error) {
      const isNew = this.#breaker.state().kind === 'closed';
      attempt.failed();
      if (isNew && !this.#isClosed) onError(error);
    }
  }
}

function isTheSame(held: Binding, row: Binding): boolean {
  const { machine, origin, generation } = held;
  return machine === row.machine && origin === row.origin && generation === row.generation;
}
