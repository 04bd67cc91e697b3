/**
 * The path of every write, and what lookups must see of the writes on it:
 *
 *     called ─ earlier writes of its key have ended ─ key in the outbox, or writes fail ─> outbox
 *                                                   └ else ─> store ─ written in time ─> local copy
 *                                                                   └ failed, too slow ─> outbox
 *
 * Of each key one write runs at a time, so a write that is retried, or ends in the outbox, still
 * takes effect before the writes called after it.
 */
import type { Clock } from '../../clock.ts';
import { retry } from '../../resilience.ts';
import type { SessionKey } from '../../session.ts';
import { createWritesInFlight } from '../in-flight.ts';
import { applyWrites, type Outcome, type Write } from '../rules.ts';
import { StoreError, type Lookup, type StoreLimits } from '../store.ts';
import { createTimeLimit, type TimeLimit } from '../time-limit.ts';
import { countWrite, performWrite, type StoreCounters } from '../write-methods.ts';
import type { LocalCopy } from './local-copy.ts';
import type { Outbox } from './outbox.ts';
import { seenThrough, type PendingChange } from './pending-change.ts';
import type { StoreAttempt } from './status.ts';
import type { StoreSupervisor } from './supervisor.ts';

export interface WritePathOptions {
  readonly clock: Clock;
  readonly random: () => number;
  readonly limits: StoreLimits;
  /** The retries after passing failures of a write; 0 if the store itself retries, in order. */
  readonly retryCount: number;
  readonly retryDelayMs: number;
}

interface WritePathParts {
  readonly localCopy: LocalCopy;
  readonly outbox: Outbox;
  readonly supervisor: StoreSupervisor;
  /** Counts what the outbox accepts; the store counts for itself. */
  readonly counters: StoreCounters;
}

/** The changes of a key that are not in the store yet, the older part first. */
interface Unwritten {
  readonly change: PendingChange | undefined;
  readonly writes: readonly Write[] | undefined;
}

/** How long a response may wait for its binding: then the outbox accepts it. */
const WRITE_LIMIT_MS = 1_000;

export class WritePath {
  readonly #options: WritePathOptions;
  readonly #parts: WritePathParts;
  readonly #inFlight = createWritesInFlight<Outcome>();
  readonly #limit: TimeLimit;

  constructor(options: WritePathOptions, parts: WritePathParts) {
    this.#options = options;
    this.#parts = parts;
    this.#limit = createTimeLimit(options.clock, WRITE_LIMIT_MS, 'a write');
  }

  /** Rejects only on a defect: if the store does not take the write in time, it is accepted here. */
  write(write: Write): Promise<Outcome> {
    return this.#inFlight.run(write, () => this.#perform(write));
  }

  /**
   * Acts when the writes of the key called so far have ended, before those called later; undefined
   * if there are none: then it does not act.
   */
  betweenWrites(key: SessionKey, act: () => void): Promise<void> | undefined {
    if (!this.#inFlight.of(key)) return undefined;
    return this.inTurn(key, () => Promise.resolve().then(act));
  }

  /** Acts when the writes of the key called so far have ended; those called later wait for it. */
  inTurn(key: SessionKey, act: () => Promise<void>): Promise<void> {
    return this.#inFlight.read(key, act);
  }

  /** Resolves once all writes called so far have ended. */
  ended(): Promise<void> {
    return this.#inFlight.ended();
  }

  unwritten(key: SessionKey): Unwritten | undefined {
    const change = this.#parts.outbox.find(key);
    const writes = this.#inFlight.of(key);
    return change || writes ? { change, writes } : undefined;
  }

  /** See `WritesInFlight.beginRead`. */
  beginRead(key: SessionKey): () => boolean {
    return this.#inFlight.beginRead(key);
  }

  /** The value of `found` once all pending writes are applied: writing them twice changes nothing. */
  seeThrough({ change, writes }: Unwritten, found: Lookup): Lookup {
    const now = this.#options.clock.now();
    const seen = change ? seenThrough(change, found, now) : found;
    if (!writes) return seen;
    const { maxAgeMs } = this.#options.limits;
    const before = typeof seen === 'string' ? undefined : seen;
    const after = applyWrites(writes, before, maxAgeMs);
    if (after === undefined) return seen === 'unknown' ? 'unknown' : 'absent';
    return after.expiresAt > now ? after : 'absent';
  }

  async #perform(write: Write): Promise<Outcome> {
    const { outbox, supervisor } = this.#parts;
    const attempt = outbox.find(write.key) ? undefined : supervisor.begin('writes');
    const outcome = attempt && (await this.#performInTime(attempt, write));
    if (!outcome) return this.#accept(write);
    const isKept = attempt.isDiscarded() ? this.#transfer(outcome) : this.#follow(write, outcome);
    return isKept ? outcome : this.#accept(write);
  }

  /** Undefined if the store failed or was late; a later result is ignored. */
  async #performInTime(attempt: StoreAttempt, write: Write): Promise<Outcome | undefined> {
    try {
      return await this.#limit(this.#performPatiently(attempt, write));
    } catch (error) {
      attempt.failed(error);
      return undefined;
    }
  }

  #performPatiently(attempt: StoreAttempt, write: Write): Promise<Outcome> {
    const { clock, random, retryCount, retryDelayMs } = this.#options;
    const perform = (count: number): Promise<Outcome> =>
      count === 0 || attempt.isAllowed()
        ? performWrite(attempt.store, write)
        : Promise.reject(STORE_FAILED);
    return retry(perform, {
      ...{ clock, random, retryCount, delayMs: retryDelayMs },
      isRetryable: (error) => isPassing(error) && attempt.isAllowed(),
      untilMs: clock.monotonicMs() + WRITE_LIMIT_MS,
    });
  }

  /**
   * For the result of a store that was found damaged meanwhile: the store that replaces it may have
   * been refilled already, so the outbox writes the binding to it. False if there is no binding:
   * that key may be absent only because the store is damaged.
   */
  #transfer({ after }: Outcome): boolean {
    const { localCopy, outbox, supervisor } = this.#parts;
    if (!after) return false;
    localCopy.remember(after);
    outbox.restore(after);
    supervisor.onQueued();
    return true;
  }

  /** The local copy follows the store. False if the store should have known the binding, and did not. */
  #follow(write: Write, { after, hasTakenEffect }: Outcome): boolean {
    const { localCopy, supervisor } = this.#parts;
    if (after) {
      localCopy.remember(after);
      return true;
    }
    const known = localCopy.find(write.key);
    if (!known) return true;
    if (hasTakenEffect) {
      localCopy.apply(write);
      return true;
    }
    const isOfOther =
      write.kind === 'delete' && (write.ifMachine ?? known.machine) !== known.machine;
    if (isOfOther) return true;
    if (supervisor.status.mayHaveForgotten()) return false;
    localCopy.forget(write.key);
    return true;
  }

  async #accept(write: Write): Promise<Outcome> {
    const { outbox, supervisor, counters } = this.#parts;
    const { outcome, journaled } = outbox.accept(write);
    countWrite(counters, write, outcome);
    supervisor.onQueued();
    await journaled;
    return outcome;
  }
}

function isPassing(error: unknown): boolean {
  return error instanceof StoreError && error.code === 'passing';
}

const STORE_FAILED = new StoreError('passing', 'the session store failed while a write waited');

interface ReadPathOptions {
  readonly clock: Clock;
  readonly isShared: boolean;
  /** How long an unused binding lives, in ms. */
  readonly ttlMs: number;
}

interface ReadPathParts {
  readonly localCopy: LocalCopy;
  readonly writes: WritePath;
  readonly supervisor: StoreSupervisor;
  /** Counts lookups served here; the store counts for itself. */
  readonly counters: StoreCounters;
}

/** A store's own timeout for a lookup is much shorter. */
const READ_LIMIT_MS = 1_000;

/**
 * The path of every lookup:
 *
 *     store can't be read, or the outbox binds the key ─> local copy, and what is unwritten
 *     else ─> store ─ knows ─> its result, and what is unwritten; the local copy follows
 *                   └ fails, or is late ─> local copy, and what is unwritten
 */
export class ReadPath {
  readonly #options: ReadPathOptions;
  readonly #parts: ReadPathParts;
  readonly #limit: TimeLimit;

  constructor(options: ReadPathOptions, parts: ReadPathParts) {
    this.#options = options;
    this.#parts = parts;
    this.#limit = createTimeLimit(options.clock, READ_LIMIT_MS, 'a lookup');
  }

  lookup(key: SessionKey): Lookup | Promise<Lookup> {
    const { supervisor, writes } = this.#parts;
    const store = supervisor.readable;
    const unwritten = writes.unwritten(key);
    if (store === undefined || unwritten?.change?.then.kind === 'bind') {
      return this.#lookupHere(key);
    }
    const found = store.lookup(key);
    if (found instanceof Promise) return this.#awaitLookup(key, unwritten, found);
    supervisor.onRead(found !== 'unknown');
    if (found === 'unknown') return this.#lookupHere(key);
    return unwritten ? writes.seeThrough(unwritten, found) : this.#onFound(key, found);
  }

  /** Serves a late or failed read from local state. */
  async #awaitLookup(
    key: SessionKey,
    unwritten: Unwritten | undefined,
    asked: Promise<Lookup>,
  ): Promise<Lookup> {
    const { supervisor, writes } = this.#parts;
    const attempt = supervisor.begin('reads');
    const endRead = writes.beginRead(key);
    const found = await this.#inTime(asked);
    const isCrossed = endRead();
    if (found === 'unknown') {
      attempt?.failed();
      return this.#lookupHere(key);
    }
    attempt?.succeeded();
    if (unwritten) return writes.seeThrough(unwritten, found);
    return isCrossed ? found : this.#onFound(key, found);
  }

  async #inTime(asked: Promise<Lookup>): Promise<Lookup> {
    try {
      return await this.#limit(asked);
    } catch {
      // Late, or rejected against its contract: either way the result is unknown.
      return 'unknown';
    }
  }

  #lookupHere(key: SessionKey): Lookup {
    const { localCopy, writes, counters } = this.#parts;
    counters.lookups += 1;
    const unknown = this.#hasOutlivedAll() ? 'absent' : 'unknown';
    const known = localCopy.find(key) ?? unknown;
    const unwritten = writes.unwritten(key);
    return unwritten ? writes.seeThrough(unwritten, known) : known;
  }

  /**
   * A binding made before the store went away is known if it was used since, or has expired. In a
   * shared store other Machines keep binding.
   */
  #hasOutlivedAll(): boolean {
    const { isShared, ttlMs } = this.#options;
    return !isShared && this.#parts.supervisor.status.awayMs() >= ttlMs;
  }

  /** A key that has no pending write. Restores a binding that the store may have forgotten first. */
  #onFound(key: SessionKey, found: Exclude<Lookup, 'unknown'>): Lookup {
    const { localCopy, supervisor } = this.#parts;
    const known = supervisor.status.mayHaveForgotten() ? localCopy.find(key) : undefined;
    if (known) return found === 'absent' || known.generation > found.generation ? known : found;
    if (found === 'absent') localCopy.forget(key);
    else localCopy.remember(found);
    return found;
  }
}
