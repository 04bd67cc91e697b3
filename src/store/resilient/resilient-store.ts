/**
 * A store that fails no request: what stands between the request path and a database that may be
 * busy, full, damaged or gone.
 *
 *     lookup ─ accepted here, not told yet ─ yes ─> what was accepted
 *              └ no ─ reads work ─> store ─ knows ─> answer
 *                     │                   └ can't tell ─> localCopy
 *                     └ they don't ────────────────────> localCopy
 *     write ── writes work, key not queued ─> store ─ written within a second ─> done
 *              │                                    └ failed, or too slow ┐
 *              └ they don't ──────────────────────────────────────────────┴> accepted, queued
 *
 * The local copy is what this process knows the store to hold (`local-copy.ts`); what is accepted here is
 * told to the store once that works again (`outbox.ts`). Two circuit breakers, one for reads and
 * one for writes, keep a dead store from costing a request anything; `supervisor.ts` alone tries it then,
 * with growing pauses.
 *
 * What is not known here may be in the store: `unknown`, until a store that is nobody else's has
 * been away for as long as a binding lives unused. From then on it is `absent`.
 */
import type { Binding, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { retry } from '../../resilience.ts';
import type { StoreHealth, WriteBackResult } from '../health.ts';
import { createTimeLimit, withinTime } from '../time-limit.ts';
import type { TimeLimit } from '../time-limit.ts';
import { enterCopies, readPages } from './joining.ts';
import type { JoiningParts } from './joining.ts';
import { createJournal, NO_JOURNAL } from './journal.ts';
import type { Journal } from './journal.ts';
import { createStoreSupervisor } from './supervisor.ts';
import type { StoreSupervisor, StoreSupervisorOptions, StoreAttempt } from './supervisor.ts';
import { seenThrough } from './pending-change.ts';
import type { PendingChange } from './pending-change.ts';
import { performWrite } from './perform.ts';
import { probeWrites } from './probe.ts';
import { applyWrite } from '../rules.ts';
import type { Outcome, Write } from '../rules.ts';
import { createLocalCopy } from './local-copy.ts';
import type { LocalCopy } from './local-copy.ts';
import { createCumulativeCounts } from './steady-counts.ts';
import { StoreError } from '../store.ts';
import type {
  Lookup,
  Owners,
  SessionStore,
  StoreLimits,
  StoreMetrics,
  PeerCopy,
  PeerPage,
} from '../store.ts';
import { createWritesInFlight } from './in-flight.ts';
import type { WritesInFlight } from './in-flight.ts';
import { createOutbox } from './outbox.ts';
import type { Conflict, Outbox } from './outbox.ts';
import { countWrite, createStoreCounters, createWriteMethods } from '../write-methods.ts';

export interface ResilientStore extends SessionStore {
  health(): StoreHealth;
}

export interface ResilientOptions extends Omit<
  StoreSupervisorOptions,
  'localCopy' | 'outbox' | 'isBeingWritten'
> {
  readonly kind: SessionStore['kind'];
  readonly isShared: boolean;
  readonly limits: StoreLimits;
  /** How long a binding lives that is not used, in ms. */
  readonly ttlMs: number;
  /** Of passing failures of a write; 0 where the store itself tries again, in order. */
  readonly retryCount: number;
  readonly retryDelayMs: number;
  /** Opens a store on this Machine, for what a shared one has not been told yet. */
  readonly openJournal?: () => Promise<SessionStore>;
  readonly onWrittenBack: (result: WriteBackResult, conflict?: Conflict) => void;
}

/** What an answer may wait for its binding: then it is accepted here, and written when that works. */
const WRITE_BUDGET_MS = 1_000;
/** A store gives up a lookup by itself long before. */
const READ_LIMIT_MS = 1_000;
const METRICS_LIMIT_MS = 1_000;
/** Millions of rows on a busy Machine take a minute; a close ends it at once. */
const CLEANUP_LIMIT_MS = 300_000;
/** While all is well: what is in use, and not all that a store can hold. */
const MAX_KNOWN_WHEN_HEALTHY = 200_000;
const MAX_QUEUED_KEYS = 100_000;

/** Never rejects. Resolves when the store is open, or after a few seconds without it. */
export async function openResilientStore(options: ResilientOptions): Promise<ResilientStore> {
  const { clock, limits } = options;
  const room = Math.min(limits.maxSessions, MAX_KNOWN_WHEN_HEALTHY);
  const localCopy = createLocalCopy(clock, limits, room);
  const outbox = openWriteBack(options, localCopy);
  const inFlight = createWritesInFlight();
  const supervisor = createStoreSupervisor({
    ...options,
    localCopy: localCopy,
    outbox: outbox,
    isBeingWritten: (key) => inFlight.of(key) !== undefined,
    onHealth: (health) => {
      localCopy.setRoom(health.state === 'healthy' ? room : limits.maxSessions);
      options.onHealth(health);
    },
  });
  await supervisor.start();
  return new Resilient(options, { localCopy, outbox, inFlight, supervisor });
}

function openWriteBack(options: ResilientOptions, localCopy: LocalCopy): Outbox {
  const { self, clock, limits, ttlMs, onWrittenBack, onError } = options;
  const maxKeys = Math.min(MAX_QUEUED_KEYS, limits.maxSessions);
  return createOutbox({
    ...{ localCopy: localCopy, clock, maxKeys, maxAgeMs: limits.maxAgeMs, lifeMs: ttlMs },
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
  readonly inFlight: WritesInFlight;
  readonly supervisor: StoreSupervisor;
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
  readonly #inFlight: WritesInFlight;
  readonly #supervisor: StoreSupervisor;
  readonly #joining: JoiningParts;
  /** Of what was done here; the store counts for itself. */
  readonly #counters = createStoreCounters();
  readonly #steadyCounts = createCumulativeCounts();
  readonly #writeLimit: TimeLimit;
  readonly #readLimit: TimeLimit;
  #closing: Promise<void> | undefined;

  constructor(options: ResilientOptions, { localCopy, outbox, inFlight, supervisor }: Parts) {
    this.kind = options.kind;
    this.#clock = options.clock;
    this.#options = options;
    this.#localCopy = localCopy;
    this.#outbox = outbox;
    this.#inFlight = inFlight;
    this.#supervisor = supervisor;
    this.#joining = { supervisor: supervisor, outbox: outbox, localCopy: localCopy };
    this.#writeLimit = createTimeLimit(this.#clock, WRITE_BUDGET_MS, 'a write');
    this.#readLimit = createTimeLimit(this.#clock, READ_LIMIT_MS, 'a lookup');
    const methods = createWriteMethods(this.#clock, createStoreCounters(), (write) => {
      this.#assertOpen();
      return inFlight.run(write, () => this.#write(write));
    });
    this.claim = methods.claim;
    this.upsert = methods.upsert;
    this.rebind = methods.rebind;
    this.touch = methods.touch;
    this.expireWithin = methods.expireWithin;
    this.delete = methods.delete;
  }

  /** Not while it fails or may have forgotten something: then the owners themselves are asked. */
  get isShared(): boolean {
    return this.#options.isShared && this.#supervisor.status.isTrusted();
  }

  health(): StoreHealth {
    return this.#supervisor.status.health();
  }

  lookup(key: SessionKey): Lookup | Promise<Lookup> {
    if (this.#closing) return 'unknown';
    const change = this.#outbox.find(key);
    const store = this.#supervisor.readable;
    if (store === undefined || change?.then.kind === 'bind') return this.#lookupHere(key);
    const writes = this.#inFlight.of(key);
    const found = store.lookup(key);
    if (found instanceof Promise) return this.#awaitLookup({ key, change, writes }, found);
    this.#supervisor.onRead(found !== 'unknown');
    if (found === 'unknown') return this.#lookupHere(key);
    if (change || writes) return this.#seeThrough({ key, change, writes }, found);
    return this.#onFound(key, found);
  }

  async cleanup(): Promise<number> {
    this.#assertOpen();
    await this.#inFlight.ended();
    const forgotten = await this.#localCopy.cleanup();
    await this.#outbox.cleanup();
    this.#counters.lastCleanupAt = this.#clock.now();
    const use = this.#supervisor.begin('writes');
    try {
      if (!use) return forgotten;
      return await withinTime(this.#clock, CLEANUP_LIMIT_MS, use.store.cleanup(), 'a clean-up');
    } catch (error) {
      // It may just have had too much to do: the writes say whether writes work.
      use?.failedAlone(error);
      throw error;
    }
  }

  async *entries(): AsyncGenerator<Binding> {
    this.#assertOpen();
    await this.#inFlight.ended();
    const listed = new Set<SessionKey>();
    for (const binding of [...this.#outbox.bindings()]) {
      listed.add(binding.key);
      yield binding;
    }
    const held = this.#supervisor.readable ?? this.#localCopy;
    for await (const binding of held.entries()) {
      const { key } = binding;
      const change = this.#outbox.find(key);
      const seen = change ? seenThrough(change, binding, this.#clock.now()) : binding;
      if (typeof seen !== 'string' && !listed.has(key)) yield seen;
    }
    this.#assertOpen();
  }

  pages(owners: Owners): AsyncIterable<PeerPage> {
    this.#assertOpen();
    return readPages(this.#joining, owners);
  }

  async addCopies(copies: readonly PeerCopy[]): Promise<number> {
    this.#assertOpen();
    return enterCopies(this.#joining, copies);
  }

  async getMetrics(): Promise<StoreMetrics> {
    this.#assertOpen();
    await this.#inFlight.ended();
    const store = this.#supervisor.readable;
    const held = store
      ? await withinTime(this.#clock, METRICS_LIMIT_MS, store.getMetrics(), 'counting')
      : undefined;
    const here = { total: this.#localCopy.count() + this.#outbox.depth, expired: 0, sizeBytes: 0 };
    return { ...(held ?? here), ...this.#steadyCounts.add(store, held, this.#counters) };
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #close(): Promise<void> {
    // Within their time they are written, or accepted and told by the supervisor.
    await this.#inFlight.ended();
    await this.#supervisor.stop();
    this.#localCopy.clear();
  }

  /** What comes back late, or not at all, is answered from here. */
  async #awaitLookup(before: Before, asked: Promise<Lookup>): Promise<Lookup> {
    const { key, change, writes } = before;
    const use = this.#supervisor.begin('reads');
    const endRead = this.#inFlight.beginRead(key);
    const found = await this.#inTime(asked);
    const isCrossed = endRead();
    if (found === 'unknown') {
      use?.failed();
      return this.#lookupHere(key);
    }
    use?.succeeded();
    if (change || writes || isCrossed) return this.#seeThrough(before, found);
    return this.#onFound(key, found);
  }

  async #inTime(asked: Promise<Lookup>): Promise<Lookup> {
    try {
      return await this.#readLimit(asked);
    } catch {
      // Late, or rejected against its contract: either way it is not known.
      return 'unknown';
    }
  }

  #lookupHere(key: SessionKey): Lookup {
    this.#counters.lookups += 1;
    const unknown = this.#hasOutlivedAll() ? 'absent' : 'unknown';
    const known = this.#localCopy.find(key) ?? unknown;
    const change = this.#outbox.find(key);
    return this.#seeThrough({ key, change, writes: this.#inFlight.of(key) }, known);
  }

  /**
   * What was bound before the store went away has been used since, and is known, or has expired. In a
   * shared one others go on binding.
   */
  #hasOutlivedAll(): boolean {
    return !this.#options.isShared && this.#supervisor.status.awayMs() >= this.#options.ttlMs;
  }

  /** What `found` is once what was called before has been written: writing it twice changes nothing. */
  #seeThrough({ change, writes }: Before, found: Lookup): Lookup {
    const now = this.#clock.now();
    const seen = change ? seenThrough(change, found, now) : found;
    if (!writes) return seen;
    const { maxAgeMs } = this.#options.limits;
    const before = typeof seen === 'string' ? undefined : seen;
    const after = writes.reduce(
      (binding, write) => applyWrite(write, binding, maxAgeMs).after,
      before,
    );
    if (after === undefined) return seen === 'unknown' ? 'unknown' : 'absent';
    return after.expiresAt > now ? after : 'absent';
  }

  /** Of a key that has nothing still to be written. What the store may have forgotten is told to it first. */
  #onFound(key: SessionKey, found: Exclude<Lookup, 'unknown'>): Lookup {
    const known = this.#supervisor.status.mayHaveForgotten()
      ? this.#localCopy.find(key)
      : undefined;
    if (known) return found === 'absent' || known.generation > found.generation ? known : found;
    if (found === 'absent') this.#localCopy.forget(key);
    else this.#localCopy.remember(found);
    return found;
  }

  async #write(write: Write): Promise<Outcome> {
    // What is queued goes on there, so that the writes of one key keep their order.
    const use = this.#outbox.find(write.key) ? undefined : this.#supervisor.begin('writes');
    const outcome = use && (await this.#writeInTime(use, write));
    if (!outcome || !this.#onWritten(write, outcome)) return this.#accept(write);
    return outcome;
  }

  /** Undefined if it failed, or was not done within its time: what comes of it then is no matter. */
  async #writeInTime(use: StoreAttempt, write: Write): Promise<Outcome | undefined> {
    try {
      return await this.#writeLimit(this.#writePatiently(use, write));
    } catch (error) {
      use.failed(error);
      return undefined;
    }
  }

  #writePatiently(use: StoreAttempt, write: Write): Promise<Outcome> {
    const { clock, random, retryCount, retryDelayMs } = this.#options;
    const perform = (attempt: number): Promise<Outcome> => {
      const isFirst = attempt === 0;
      return isFirst || use.isAllowed() ? performWrite(use.store, write) : Promise.reject(GIVEN_UP);
    };
    return retry(perform, {
      ...{ clock, random, retryCount, delayMs: retryDelayMs },
      isRetryable: (error) => isPassing(error) && use.isAllowed(),
      untilMs: clock.monotonicMs() + WRITE_BUDGET_MS,
    });
  }

  /** Takes note of what the store has done. False if it should have known the binding, and did not. */
  #onWritten(write: Write, { after, hasTakenEffect }: Outcome): boolean {
    if (after) {
      this.#localCopy.remember(after);
      return true;
    }
    const known = this.#localCopy.find(write.key);
    if (!known) return true;
    if (hasTakenEffect) {
      this.#localCopy.apply(write);
      return true;
    }
    const isOfOther =
      write.kind === 'delete' && (write.ifMachine ?? known.machine) !== known.machine;
    if (isOfOther) return true;
    if (this.#supervisor.status.mayHaveForgotten()) return false;
    this.#localCopy.forget(write.key);
    return true;
  }

  async #accept(write: Write): Promise<Outcome> {
    const { outcome, journaled: kept } = this.#outbox.accept(write);
    countWrite(this.#counters, write, outcome);
    this.#supervisor.onQueued();
    await kept;
    return outcome;
  }

  #assertOpen(): void {
    if (this.#closing) throw new StoreError('closed', 'the session store is closed');
  }
}

/** A key, and what was still to be written of it when it was looked up. */
interface Before {
  readonly key: SessionKey;
  readonly change: PendingChange | undefined;
  readonly writes: readonly Write[] | undefined;
}

function isPassing(error: unknown): boolean {
  return error instanceof StoreError && error.code === 'passing';
}

const GIVEN_UP = new StoreError('passing', 'the session store failed while a write waited');
