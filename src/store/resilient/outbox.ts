/**
 * The changes that were accepted here and are not in the store yet: one per key, in the order in
 * which the keys arrived. Until a change is flushed, lookups see it.
 *
 *     accepted ─> queued (and in the journal, where there is one) ─ flushed ─> in the local copy
 *                   │                                             └ fails ─> stays, flushed again
 *                   ├ no room ─> the oldest of the weakest origin: dropped, counted
 *                   └ expired, in the store too ─> gone
 */
import type { Binding, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import {
  type WriteBackResult,
  EVICTION_ORDER,
  StoreError,
  type Lookup,
  type SessionStore,
} from '../store.ts';
import { withinTime } from '../time-limit.ts';
import {
  changeAfter,
  changeToBinding,
  seenThrough,
  flushChange,
  worthOf,
  type Conflict,
  type PendingChange,
} from './pending-change.ts';
import type { Journal } from './journal.ts';
import { applyWrite, type Outcome, type Write } from '../rules.ts';
import type { LocalCopy } from './local-copy.ts';

interface Accepted {
  readonly outcome: Outcome;
  /** Resolves once the journal has written the change, or can't; never rejects. */
  readonly journaled: Promise<void>;
}

export interface OutboxOptions {
  readonly localCopy: LocalCopy;
  readonly journal: Journal;
  readonly clock: Clock;
  readonly maxAgeMs: number;
  /** How long an unused binding lives, in ms. */
  readonly lifeMs: number;
  readonly maxKeys: number;
  /** See `WritePath.inTurn`. */
  readonly inTurn: (key: SessionKey, act: () => Promise<void>) => Promise<void>;
  readonly onFlushed: (result: WriteBackResult, conflict?: Conflict) => void;
  /** Checks whether the store takes writes at all: rejects if not. */
  readonly probe: (store: SessionStore) => Promise<unknown>;
  /** The store takes other changes, and has rejected this one repeatedly: it is dropped. */
  readonly onRejected: (error: unknown) => void;
}

interface Entry {
  readonly change: PendingChange;
  readonly queuedAt: number;
}

/** `mayGoOn`: its time is not up. */
interface Flush {
  readonly store: SessionStore;
  readonly mayGoOn: () => boolean;
}

interface Failure {
  readonly key: SessionKey;
  readonly error: unknown;
}

/** Much longer than a store's own timeout: a flush that takes longer hangs. */
const FLUSH_LIMIT_MS = 10_000;
/** How long the writes of a key wait for its flush. */
const TURN_LIMIT_MS = 1_000;
/** The part of the bound by which it may be exceeded: finding the oldest weak change means a scan. */
const SLACK = 1 / 100;
/** An operator may be fixing the cause. */
const MAX_REFUSALS = 3;

export class Outbox {
  readonly #options: OutboxOptions;
  readonly #entries = new Map<SessionKey, Entry>();
  /** How often the store has rejected each key for good, while it took others. */
  readonly #refusals = new Map<SessionKey, number>();
  /** Keys that were changed during their last flush. */
  readonly #overtaken = new Set<SessionKey>();

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  /** Keys queued. */
  get depth(): number {
    return this.#entries.size;
  }

  /** Whether a change accepted now survives a restart. */
  get isDurable(): boolean {
    return this.#options.journal.isDurable;
  }

  /** The age of the oldest change, in ms; 0 if there is none. */
  ageMs(): number {
    const [oldest] = this.#entries.values();
    return oldest ? this.#options.clock.monotonicMs() - oldest.queuedAt : 0;
  }

  /** The pending change of the key: an object that never changes. */
  find(key: SessionKey): PendingChange | undefined {
    return this.#entries.size === 0 ? undefined : this.#entries.get(key)?.change;
  }

  /** Queued changes that have not expired. */
  *bindings(): IterableIterator<Binding> {
    const { clock } = this.#options;
    for (const { change } of this.#entries.values()) {
      const { then } = change;
      if (then.kind === 'bind' && then.binding.expiresAt > clock.now()) yield then.binding;
    }
  }

  /** Performs the write locally, at once, and queues the change. */
  accept(write: Write): Accepted {
    const { maxAgeMs, lifeMs, journal } = this.#options;
    const before = this.find(write.key);
    const found = this.#knownHere(write, before);
    const outcome = applyWrite(write, found, maxAgeMs);
    const change = changeAfter(before, { write, found, outcome }, lifeMs);
    if (change === undefined || change === before) return { outcome, journaled: Promise.resolve() };
    this.#put(write.key, change);
    return { outcome, journaled: journal.keep(write.key, change) };
  }

  /** Queues a binding that the store may have lost. It needs no journal: the store had it. */
  restore(binding: Binding): void {
    if (!this.#entries.has(binding.key)) this.#put(binding.key, changeToBinding(binding));
  }

  /** Queues the changes left from before a restart. Never rejects. */
  load(): Promise<void> {
    return this.#options.journal.load((key, change) => {
      if (!this.#entries.has(key)) this.#put(key, change);
    });
  }

  /**
   * Flushes the oldest changes to the store, `maxCount` at most at a time, and returns how many are
   * done. Rejects with an error of the store; failed changes stay queued.
   */
  async flush(store: SessionStore, maxCount: number): Promise<number> {
    const { clock } = this.#options;
    const chosen = this.#oldest(maxCount);
    let isOver = false;
    const flush: Flush = { store, mayGoOn: () => !isOver };
    const flushing = chosen.map(([key, entry]) => this.#flushOne(flush, key, entry));
    try {
      const results = await withinTime(clock, FLUSH_LIMIT_MS, Promise.all(flushing), FLUSHING);
      const failures = results.filter((failure) => failure !== undefined);
      if (failures.length > 0) await this.#judge(store, failures);
      return chosen.length - failures.length;
    } finally {
      isOver = true;
    }
  }

  /** Forgets expired changes. Never rejects. */
  async cleanup(): Promise<void> {
    for (const [key, { change }] of this.#entries) if (this.#isOutdated(change)) this.#remove(key);
    await this.#options.journal.tidy();
  }

  /** Never rejects. */
  close(): Promise<void> {
    return this.#options.journal.close();
  }

  #knownHere({ key, now }: Write, change: PendingChange | undefined): Binding | undefined {
    const known: Lookup = this.#options.localCopy.find(key) ?? 'unknown';
    const seen = change ? seenThrough(change, known, now) : known;
    return typeof seen === 'string' ? undefined : seen;
  }

  #put(key: SessionKey, change: PendingChange): void {
    const queuedAt = this.#entries.get(key)?.queuedAt ?? this.#options.clock.monotonicMs();
    this.#entries.set(key, { change, queuedAt });
    const { maxKeys } = this.#options;
    if (this.#entries.size > Math.floor(maxKeys * (1 + SLACK))) this.#dropExcess();
  }

  #remove(key: SessionKey): void {
    this.#entries.delete(key);
    this.#refusals.delete(key);
    this.#overtaken.delete(key);
    void this.#options.journal.erase(key);
  }

  /** As a full store does: see {@link EVICTION_ORDER}. Dropping an expired change is no loss. */
  #dropExcess(): void {
    const excess = this.#entries.size - this.#options.maxKeys;
    const now = this.#options.clock.now();
    const ranked: SessionKey[][] = Array.from({ length: EVICTION_ORDER.length + 1 }, () => []);
    for (const [key, { change }] of this.#entries) {
      const alike = ranked[change.until <= now ? 0 : 1 + worthOf(change)];
      if (alike && alike.length < excess) alike.push(key);
    }
    for (const key of ranked.flat().slice(0, excess)) this.#drop(key);
  }

  #drop(key: SessionKey): void {
    const change = this.find(key);
    this.#remove(key);
    if (!change || this.#isOutdated(change)) return;
    // The key stays bound here as long as the store can't be asked.
    if (change.then.kind === 'bind') this.#options.localCopy.remember(change.then.binding);
    this.#options.onFlushed('dropped');
  }

  #oldest(maxCount: number): [SessionKey, Entry][] {
    const oldest: [SessionKey, Entry][] = [];
    for (const [key, entry] of this.#entries) {
      if (oldest.length >= maxCount) break;
      if (this.#isOutdated(entry.change)) this.#remove(key);
      else oldest.push([key, entry]);
    }
    return oldest;
  }

  async #flushOne(flush: Flush, key: SessionKey, entry: Entry): Promise<Failure | undefined> {
    try {
      if (this.#overtaken.has(key)) await this.#flushAlone(flush, key);
      else await this.#flushEntry(flush, key, entry);
      return undefined;
    } catch (error) {
      return { key, error };
    }
  }

  /** Without a turn of its own, a key that is written all the time would never be flushed. */
  async #flushAlone(flush: Flush, key: SessionKey): Promise<void> {
    const { clock, inTurn } = this.#options;
    const flushing: Promise<void>[] = [];
    await inTurn(key, async () => {
      const entry = this.#entries.get(key);
      if (!entry || !flush.mayGoOn()) return;
      const flushed = this.#flushEntry(flush, key, entry);
      flushing.push(flushed);
      // The flush may take longer; the writes of the key then no longer wait.
      await withinTime(clock, TURN_LIMIT_MS, flushed, FLUSHING).catch(() => undefined);
    });
    await Promise.all(flushing);
  }

  async #flushEntry({ store, mayGoOn }: Flush, key: SessionKey, entry: Entry): Promise<void> {
    const held = await flushChange(store, key, entry.change, this.#options.clock.now(), mayGoOn);
    // A late flush is repeated.
    if (!mayGoOn()) return;
    const current = this.#entries.get(key);
    if (current === entry) {
      this.#remove(key);
      this.#onFlushed(key, entry.change, held);
    } else if (current) this.#overtaken.add(key);
  }

  #onFlushed(key: SessionKey, { then }: PendingChange, held: Binding | undefined): void {
    const { localCopy, onFlushed } = this.#options;
    if (held) localCopy.remember(held);
    else localCopy.forget(key);
    const accepted = then.kind === 'bind' ? then.binding.machine : undefined;
    if (accepted === undefined || !held || held.machine === accepted) onFlushed('written');
    else onFlushed('conflict', { key, accepted, owner: held.machine });
  }

  /** A store that rejects one binding for good, and takes others, must still receive the others. */
  async #judge(store: SessionStore, failures: readonly Failure[]): Promise<void> {
    const { clock, probe, onRejected } = this.#options;
    const failing = failures.find(({ error }) => !isRefusal(error));
    if (failing) throw failing.error;
    await withinTime(clock, FLUSH_LIMIT_MS, probe(store), FLUSHING);
    for (const { key, error } of failures) {
      const refusals = (this.#refusals.get(key) ?? 0) + 1;
      this.#refusals.set(key, refusals);
      if (refusals < MAX_REFUSALS) continue;
      this.#drop(key);
      onRejected(error);
    }
  }

  #isOutdated({ until }: PendingChange): boolean {
    return until <= this.#options.clock.now();
  }
}

const FLUSHING = 'flushing changes to the session store';

function isRefusal(error: unknown): boolean {
  return error instanceof StoreError && error.code === 'fatal';
}
