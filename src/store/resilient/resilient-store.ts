/**
 * A store that fails no request: it stands between the request path and a database that may be
 * busy, full, damaged or gone. See README.md for the path of a lookup, a write and a recovery.
 *
 * A key that is not known here may be in the store: `unknown`, until a store that only this Machine
 * writes to has been away for as long as an unused binding lives. From then on it is `absent`.
 */
import type { Clock } from '../../clock.ts';
import type { Binding, SessionKey } from '../../session.ts';
import type { StoreHealth, WriteBackResult } from '../health.ts';
import {
  StoreError,
  type Lookup,
  type Owners,
  type PeerCopy,
  type PeerPage,
  type SessionStore,
  type StoreMetrics,
} from '../store.ts';
import { createTimeLimit, withinTime, type TimeLimit } from '../time-limit.ts';
import { createStoreCounters, createWriteMethods, type StoreCounters } from '../write-methods.ts';
import { enterCopies, readPages } from './joining.ts';
import { createJournal, NO_JOURNAL, type Journal } from './journal.ts';
import { createLocalCopy, type LocalCopy } from './local-copy.ts';
import { probeWrites } from './store-in-use.ts';
import { Outbox, type Conflict } from './outbox.ts';
import { createCumulativeCounts } from './status.ts';
import { StoreSupervisor, type StoreSupervisorOptions } from './supervisor.ts';
import { WritePath, type Unwritten, type WritePathOptions } from './write-path.ts';

export interface ResilientStore extends SessionStore {
  health(): StoreHealth;
}

export interface ResilientOptions
  extends
    Omit<StoreSupervisorOptions, 'localCopy' | 'outbox' | 'whileWritten'>,
    WritePathOptions {
  readonly kind: SessionStore['kind'];
  /** How long an unused binding lives, in ms. */
  readonly ttlMs: number;
  /** Opens a store on this Machine for the changes that a shared store has not received yet. */
  readonly openJournal?: () => Promise<SessionStore>;
  readonly onWrittenBack: (result: WriteBackResult, conflict?: Conflict) => void;
}

/** A store's own timeout for a lookup is much shorter. */
const READ_LIMIT_MS = 1_000;
const METRICS_LIMIT_MS = 1_000;
/** Millions of rows on a busy Machine take a minute; a close ends it at once. */
const CLEANUP_LIMIT_MS = 300_000;
/** While the store is healthy: the sessions in use, not all that a store can hold. */
const MAX_KNOWN_WHEN_HEALTHY = 200_000;
const MAX_QUEUED_KEYS = 100_000;

/** Never rejects. Resolves when the store is open, or after a few seconds without it. */
export async function openResilientStore(options: ResilientOptions): Promise<ResilientStore> {
  const { clock, limits } = options;
  const room = Math.min(limits.maxSessions, MAX_KNOWN_WHEN_HEALTHY);
  const localCopy = createLocalCopy(clock, limits, room);
  const outbox = openOutbox(options, localCopy);
  const counters = createStoreCounters();
  const supervisor: StoreSupervisor = new StoreSupervisor({
    ...options,
    ...{ localCopy, outbox },
    whileWritten: (key): Promise<void> | undefined => writes.whileWritten(key),
    onHealth: (health) => {
      localCopy.setRoom(health.state === 'healthy' ? room : limits.maxSessions);
      options.onHealth(health);
    },
  });
  const writes: WritePath = new WritePath(options, { localCopy, outbox, supervisor, counters });
  await supervisor.start();
  return new Resilient(options, { localCopy, outbox, writes, supervisor, counters });
}

function openOutbox(options: ResilientOptions, localCopy: LocalCopy): Outbox {
  const { self, clock, limits, ttlMs, onWrittenBack, onError } = options;
  const maxKeys = Math.min(MAX_QUEUED_KEYS, limits.maxSessions);
  return new Outbox({
    ...{ localCopy, clock, maxKeys, maxAgeMs: limits.maxAgeMs, lifeMs: ttlMs },
    journal: journalOf(options, maxKeys),
    probe: (store) => probeWrites(store, self, clock),
    onFlushed: onWrittenBack,
    onRejected: onError,
  });
}

function journalOf(options: ResilientOptions, maxKeys: number): Journal {
  const { self, clock, random, openJournal: open, onError } = options;
  return open ? createJournal({ self, clock, random, open, maxKeys, onError }) : NO_JOURNAL;
}

interface Parts {
  readonly localCopy: LocalCopy;
  readonly outbox: Outbox;
  readonly writes: WritePath;
  readonly supervisor: StoreSupervisor;
  /** Counts what this wrapper has done; the store counts for itself. */
  readonly counters: StoreCounters;
}

class Resilient implements ResilientStore {
  readonly kind: SessionStore['kind'];
  readonly claim: SessionStore['claim'];
  readonly upsert: SessionStore['upsert'];
  readonly rebind: SessionStore['rebind'];
  readonly touch: SessionStore['touch'];
  readonly expireWithin: SessionStore['expireWithin'];
  readonly delete: SessionStore['delete'];
  readonly #clock: Clock;
  readonly #options: ResilientOptions;
  readonly #parts: Parts;
  readonly #localCopy: LocalCopy;
  readonly #outbox: Outbox;
  readonly #writes: WritePath;
  readonly #supervisor: StoreSupervisor;
  readonly #counters: StoreCounters;
  readonly #cumulativeCounts = createCumulativeCounts();
  readonly #readLimit: TimeLimit;
  #closing: Promise<void> | undefined;

  constructor(options: ResilientOptions, parts: Parts) {
    const { localCopy, outbox, writes, supervisor, counters } = parts;
    this.kind = options.kind;
    this.#clock = options.clock;
    this.#options = options;
    this.#parts = parts;
    this.#localCopy = localCopy;
    this.#outbox = outbox;
    this.#writes = writes;
    this.#supervisor = supervisor;
    this.#counters = counters;
    this.#readLimit = createTimeLimit(this.#clock, READ_LIMIT_MS, 'a lookup');
    const methods = createWriteMethods(this.#clock, createStoreCounters(), (write) => {
      this.#assertOpen();
      return writes.write(write);
    });
    this.claim = methods.claim;
    this.upsert = methods.upsert;
    this.rebind = methods.rebind;
    this.touch = methods.touch;
    this.expireWithin = methods.expireWithin;
    this.delete = methods.delete;
  }

  /**
   * Not while the store fails or may have forgotten bindings: then the owners themselves are asked.
   */
  get isShared(): boolean {
    return this.#options.isShared && this.#supervisor.status.isTrusted();
  }

  health(): StoreHealth {
    return this.#supervisor.status.health();
  }

  lookup(key: SessionKey): Lookup | Promise<Lookup> {
    if (this.#closing) return 'unknown';
    const store = this.#supervisor.readable;
    const unwritten = this.#writes.unwritten(key);
    if (store === undefined || unwritten?.change?.then.kind === 'bind') {
      return this.#lookupHere(key);
    }
    const found = store.lookup(key);
    if (found instanceof Promise) return this.#awaitLookup(key, unwritten, found);
    this.#supervisor.onRead(found !== 'unknown');
    if (found === 'unknown') return this.#lookupHere(key);
    return unwritten ? this.#writes.seeThrough(unwritten, found) : this.#onFound(key, found);
  }

  async cleanup(): Promise<number> {
    this.#assertOpen();
    await this.#writes.ended();
    const forgotten = await this.#localCopy.cleanup();
    await this.#outbox.cleanup();
    this.#counters.lastCleanupAt = this.#clock.now();
    const attempt = this.#supervisor.begin('writes');
    try {
      if (!attempt) return forgotten;
      return await withinTime(this.#clock, CLEANUP_LIMIT_MS, attempt.store.cleanup(), 'a clean-up');
    } catch (error) {
      // The store may just have been overloaded: the writes show whether writes work.
      attempt?.failedAlone(error);
      throw error;
    }
  }

  async *entries(): AsyncGenerator<Binding> {
    this.#assertOpen();
    await this.#writes.ended();
    const listed = new Set<SessionKey>();
    for (const binding of [...this.#outbox.bindings()]) {
      listed.add(binding.key);
      yield binding;
    }
    const held = this.#supervisor.readable ?? this.#localCopy;
    for await (const binding of held.entries()) {
      const { key } = binding;
      const change = this.#outbox.find(key);
      const seen = change
        ? this.#writes.seeThrough({ change, writes: undefined }, binding)
        : binding;
      if (typeof seen !== 'string' && !listed.has(key)) yield seen;
    }
    this.#assertOpen();
  }

  pages(owners: Owners): AsyncIterable<PeerPage> {
    this.#assertOpen();
    return readPages(this.#parts, owners);
  }

  async addCopies(copies: readonly PeerCopy[]): Promise<number> {
    this.#assertOpen();
    return enterCopies(this.#parts, copies);
  }

  async getMetrics(): Promise<StoreMetrics> {
    this.#assertOpen();
    await this.#writes.ended();
    const store = this.#supervisor.readable;
    const held = store
      ? await withinTime(this.#clock, METRICS_LIMIT_MS, store.getMetrics(), 'counting')
      : undefined;
    const here = { total: this.#localCopy.count() + this.#outbox.depth, expired: 0, sizeBytes: 0 };
    return { ...(held ?? here), ...this.#cumulativeCounts.add(store, held, this.#counters) };
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #close(): Promise<void> {
    // Within the limit they are written, or accepted for the supervisor to flush.
    await this.#writes.ended();
    await this.#supervisor.stop();
    this.#localCopy.clear();
  }

  /** Serves a late or failed read from local state. */
  async #awaitLookup(
    key: SessionKey,
    unwritten: Unwritten | undefined,
    asked: Promise<Lookup>,
  ): Promise<Lookup> {
    const attempt = this.#supervisor.begin('reads');
    const endRead = this.#writes.beginRead(key);
    const found = await this.#inTime(asked);
    const isCrossed = endRead();
    if (found === 'unknown') {
      attempt?.failed();
      return this.#lookupHere(key);
    }
    attempt?.succeeded();
    if (unwritten) return this.#writes.seeThrough(unwritten, found);
    return isCrossed ? found : this.#onFound(key, found);
  }

  async #inTime(asked: Promise<Lookup>): Promise<Lookup> {
    try {
      return await this.#readLimit(asked);
    } catch {
      // Late, or rejected against its contract: either way the result is unknown.
      return 'unknown';
    }
  }

  #lookupHere(key: SessionKey): Lookup {
    this.#counters.lookups += 1;
    const unknown = this.#hasOutlivedAll() ? 'absent' : 'unknown';
    const known = this.#localCopy.find(key) ?? unknown;
    const unwritten = this.#writes.unwritten(key);
    return unwritten ? this.#writes.seeThrough(unwritten, known) : known;
  }

  /**
   * A binding made before the store went away is known if it was used since, or has expired. In a
   * shared store other Machines keep binding.
   */
  #hasOutlivedAll(): boolean {
    return !this.#options.isShared && this.#supervisor.status.awayMs() >= this.#options.ttlMs;
  }

  /**
   * A key that has no pending write. Restores a binding that the store may have forgotten first.
   */
  #onFound(key: SessionKey, found: Exclude<Lookup, 'unknown'>): Lookup {
    const known = this.#supervisor.status.mayHaveForgotten()
      ? this.#localCopy.find(key)
      : undefined;
    if (known) return found === 'absent' || known.generation > found.generation ? known : found;
    if (found === 'absent') this.#localCopy.forget(key);
    else this.#localCopy.remember(found);
    return found;
  }

  #assertOpen(): void {
    if (this.#closing) throw new StoreError('closed', 'the session store is closed');
  }
}
