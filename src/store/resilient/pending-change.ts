/**
 * All changes of one key that were accepted here and are not in the store yet, merged into one.
 *
 * A binding that another Machine made meanwhile stays. So a removal names the owner of the removed
 * binding, and a binding is written with its generation: of two owners of one generation a store
 * keeps the one it has. Flushing a change twice leaves what flushing it once leaves, so a lost
 * response does no harm.
 */
import type { Binding, MachineId, SessionKey } from '../../session.ts';
import { wholeTtlMs, type Outcome, type Write } from '../rules.ts';
import type { Lookup, SessionStore, StatedBinding } from '../store.ts';
import type { Clock } from '../../clock.ts';
import { createCircuitBreaker } from '../../resilience.ts';
import { withinTime } from '../time-limit.ts';

export interface PendingChange {
  /** Removed first: the binding of any of these owners, or of any owner. */
  readonly removed: readonly MachineId[] | 'any';
  readonly then: Then;
  /** Whether `binding` is the whole state of the key, whatever the store holds. */
  readonly isCertain: boolean;
  /** From then on the change need not be flushed: the outdated binding in the store has expired. */
  readonly until: number;
}

type Then =
  | { readonly kind: 'nothing' }
  /** `owners`: the owners here since the removal, or before the store failed. */
  | { readonly kind: 'bind'; readonly binding: Binding; readonly owners: readonly MachineId[] }
  /** A change of a binding that is not known here. */
  | { readonly kind: 'touch' | 'expire'; readonly expiresAt: number };

const NOTHING = { kind: 'nothing' } as const;

/** A write that was performed here. */
export interface Performed {
  readonly write: Write;
  /** The binding before; undefined too if it is not known. */
  readonly found: Binding | undefined;
  readonly outcome: Outcome;
}

/** `lifeMs`: how long an unused binding lives. Returns the same object if nothing has changed. */
export function changeAfter(
  change: PendingChange | undefined,
  { write, found, outcome }: Performed,
  lifeMs: number,
): PendingChange | undefined {
  const { after, hasTakenEffect } = outcome;
  const before = withoutExpired(change, write.now);
  if (after) {
    return hasTakenEffect && after !== found ? changeToBinding(after, found, before) : change;
  }
  if (found) return changeToRemoval(found, before);
  // An absent key can be neither extended nor removed.
  if (before?.isCertain) return change;
  const until = Math.max(before?.until ?? 0, write.now + lifeMs);
  switch (write.kind) {
    case 'touch':
    case 'expireWithin':
      return slideOfUnknown(write, before, until);
    case 'delete':
      return removalOfUnknown(write.ifMachine, before, until);
    default:
      return change;
  }
}

/** The result of a lookup, if `found` is what the store holds or was known to hold. */
export function seenThrough(change: PendingChange, found: Lookup, now: number): Lookup {
  const { removed, then, isCertain } = change;
  if (then.kind === 'bind') return then.binding.expiresAt > now ? then.binding : 'absent';
  if (found === 'unknown') return isCertain ? 'absent' : 'unknown';
  if (found === 'absent') return 'absent';
  if (removed === 'any' || removed.includes(found.machine)) return 'absent';
  if (then.kind === 'nothing') return found;
  const limit = then.kind === 'touch' ? Math.max : Math.min;
  return { ...found, expiresAt: limit(found.expiresAt, then.expiresAt) };
}

/**
 * Writes the change to `store`. Resolves to the key's state in the store, as far as it is known.
 * `mayGoOn` is called before each write: once a newer change may have been flushed, this one must
 * not follow it.
 */
export async function flushChange(
  store: SessionStore,
  key: SessionKey,
  change: PendingChange,
  now: number,
  mayGoOn: () => boolean,
): Promise<Binding | undefined> {
  const { removed, then } = withoutExpired(change, now) ?? change;
  for (const owner of removed === 'any' ? [undefined] : removed) {
    if (mayGoOn()) await store.delete(key, owner);
  }
  if (!mayGoOn() || then.kind === 'nothing') return undefined;
  if (then.kind === 'bind') {
    return store.upsert({ ...then.binding, ttlMs: then.binding.expiresAt - now });
  }
  const leftMs = then.expiresAt - now;
  await (then.kind === 'touch' ? store.touch(key, leftMs) : store.expireWithin(key, leftMs));
  return undefined;
}

/** `found`: the binding that it replaces. Alone: a binding that the store may have lost. */
export function changeToBinding(
  binding: Binding,
  found?: Binding,
  before?: PendingChange,
): PendingChange {
  const former = before?.then.kind === 'bind' ? before.then.owners : [];
  const owners = union(former, found ? [found.machine, binding.machine] : [binding.machine]);
  return {
    removed: before?.removed ?? [],
    then: { kind: 'bind', binding, owners },
    isCertain: true,
    until: Math.max(before?.until ?? 0, found?.expiresAt ?? 0, binding.expiresAt),
  };
}

/** Alone: the removal of a binding that the store may still hold. */
function changeToRemoval(found: Binding, before?: PendingChange): PendingChange {
  const former = before?.then.kind === 'bind' ? before.then.owners : [];
  return {
    removed: withRemoved(before, [...former, found.machine]),
    then: NOTHING,
    isCertain: true,
    until: Math.max(before?.until ?? 0, found.expiresAt),
  };
}

/**
 * A binding that has expired here may be alive in the store, which does not know its early expiry.
 */
function withoutExpired(change: PendingChange | undefined, now: number): PendingChange | undefined {
  if (change?.then.kind !== 'bind' || change.then.binding.expiresAt > now) return change;
  return changeToRemoval(change.then.binding, change);
}

function slideOfUnknown(
  { kind, now, ttlMs }: Extract<Write, { kind: 'touch' | 'expireWithin' }>,
  before: PendingChange | undefined,
  until: number,
): PendingChange {
  const expiresAt = now + wholeTtlMs(ttlMs);
  return {
    removed: before?.removed ?? [],
    then: { kind: kind === 'touch' ? 'touch' : 'expire', expiresAt },
    isCertain: false,
    until: Math.max(until, expiresAt),
  };
}

function removalOfUnknown(
  ifMachine: MachineId | undefined,
  before: PendingChange | undefined,
  until: number,
): PendingChange {
  const removed = ifMachine === undefined ? 'any' : withRemoved(before, [ifMachine]);
  return { removed, then: NOTHING, isCertain: removed === 'any', until };
}

function withRemoved(
  before: PendingChange | undefined,
  machines: readonly MachineId[],
): PendingChange['removed'] {
  return before?.removed === 'any' ? 'any' : union(before?.removed ?? [], machines);
}

function union(some: readonly MachineId[], more: readonly MachineId[]): readonly MachineId[] {
  return [...new Set([...some, ...more])];
}

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
