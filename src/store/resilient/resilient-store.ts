/**
 * A store that fails no request: it stands between the request path and a database that may be
 * busy, full, damaged or gone. See README.md for the path of a lookup, a write and a recovery.
 *
 * A key that is not known here may be in the store: `unknown`, until a store that only this Machine
 * writes to has been away for as long as an unused binding lives. From then on it is `absent`.
 */
import type { Clock } from '../../clock.ts';
import type { Binding, SessionKey } from '../../session.ts';
import {
  type StoreHealth,
  type WriteBackResult,
  StoreError,
  type Lookup,
  type Owners,
  type PeerCopy,
  type PeerPage,
  type SessionStore,
  type StoreMetrics,
} from '../store.ts';
import { addCopiesTo, pagesOf } from '../peer-pages.ts';
import { withinTime } from '../time-limit.ts';
import {
  createCumulativeCounts,
  createStoreCounters,
  createWriteMethods,
  type StoreCounters,
} from '../write-methods.ts';
import { createJournal, NO_JOURNAL, type Journal } from './journal.ts';
import { createLocalCopy, type LocalCopy } from './local-copy.ts';
import { Outbox, type OutboxOptions } from './outbox.ts';
import type { Conflict } from './pending-change.ts';
import { probeWrites } from './status.ts';
import { StoreSupervisor, type StoreSupervisorOptions } from './supervisor.ts';
import { ReadPath, WritePath, type WritePathOptions } from './paths.ts';

export interface ResilientStore extends SessionStore {
  health(): StoreHealth;
}

export interface ResilientOptions
  extends Omit<StoreSupervisorOptions, 'localCopy' | 'outbox' | 'betweenWrites'>, WritePathOptions {
  readonly kind: SessionStore['kind'];
  /** How long an unused binding lives, in ms. */
  readonly ttlMs: number;
  /** Opens a store on this Machine for the changes that a shared store has not received yet. */
  readonly openJournal?: () => Promise<SessionStore>;
  readonly onWrittenBack: (result: WriteBackResult, conflict?: Conflict) => void;
}

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
  const outbox = openOutbox(options, localCopy, (key, act) => writes.inTurn(key, act));
  const counters = createStoreCounters();
  const supervisor: StoreSupervisor = new StoreSupervisor({
    ...options,
    ...{ localCopy, outbox },
    betweenWrites: (key, act): Promise<void> | undefined => writes.betweenWrites(key, act),
    onHealth: (health) => {
      localCopy.setRoom(health.state === 'healthy' ? room : limits.maxSessions);
      options.onHealth(health);
    },
  });
  const writes: WritePath = new WritePath(options, { localCopy, outbox, supervisor, counters });
  await supervisor.start();
  return new Resilient(options, { localCopy, outbox, writes, supervisor, counters });
}

function openOutbox(
  options: ResilientOptions,
  localCopy: LocalCopy,
  inTurn: OutboxOptions['inTurn'],
): Outbox {
  const { self, clock, limits, ttlMs, onWrittenBack, onError } = options;
  const maxKeys = Math.min(MAX_QUEUED_KEYS, limits.maxSessions);
  return new Outbox({
    ...{ localCopy, inTurn, clock, maxKeys, maxAgeMs: limits.maxAgeMs, lifeMs: ttlMs },
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
  readonly #localCopy: LocalCopy;
  readonly #outbox: Outbox;
  readonly #reads: ReadPath;
  readonly #writes: WritePath;
  readonly #supervisor: StoreSupervisor;
  readonly #counters: StoreCounters;
  readonly #cumulativeCounts = createCumulativeCounts();
  #closing: Promise<void> | undefined;

  constructor(options: ResilientOptions, parts: Parts) {
    const { localCopy, outbox, writes, supervisor, counters } = parts;
    this.kind = options.kind;
    this.#clock = options.clock;
    this.#options = options;
    this.#localCopy = localCopy;
    this.#outbox = outbox;
    this.#reads = new ReadPath(options, parts);
    this.#writes = writes;
    this.#supervisor = supervisor;
    this.#counters = counters;
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
    return this.#closing ? 'unknown' : this.#reads.lookup(key);
  }

  reconnect(): void {
    this.#supervisor.readable?.reconnect?.();
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

  /** Throws while the store does not hold all accepted changes: a join may be repeated later. */
  pages(owners: Owners): AsyncIterable<PeerPage> {
    this.#assertOpen();
    const store = this.#supervisor.readable;
    if (store === undefined || this.#outbox.depth > 0) throw notNow();
    return pagesOf(store, owners);
  }

  /** The local copy takes none of them: it is for sessions in use. */
  async addCopies(copies: readonly PeerCopy[]): Promise<number> {
    this.#assertOpen();
    const attempt = this.#outbox.depth > 0 ? undefined : this.#supervisor.begin('writes');
    if (attempt === undefined) throw notNow();
    try {
      const entered = await addCopiesTo(attempt.store, copies);
      attempt.succeeded();
      for (const copy of copies) this.#localCopy.forgetOlder(copy);
      return entered;
    } catch (error) {
      // The store may just have been overloaded: the other writes show whether writes work.
      attempt.failedAlone(error);
      throw error;
    }
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

  #assertOpen(): void {
    if (this.#closing) throw new StoreError('closed', 'the session store is closed');
  }
}

function notNow(): StoreError {
  return new StoreError('passing', 'the session store is not healthy');
}
