/**
 * The path of every lookup:
 *
 *     store can't be read, or the outbox binds the key ─> local copy, and what is unwritten
 *     else ─> store ─ knows ─> its result, and what is unwritten; the local copy follows
 *                   └ fails, or is late ─> local copy, and what is unwritten
 */
import type { Clock } from '../../clock.ts';
import type { SessionKey } from '../../session.ts';
import type { Lookup } from '../store.ts';
import { createTimeLimit, type TimeLimit } from '../time-limit.ts';
import type { StoreCounters } from '../write-methods.ts';
import type { LocalCopy } from './local-copy.ts';
import type { StoreSupervisor } from './supervisor.ts';
import type { Unwritten, WritePath } from './write-path.ts';

export interface ReadPathOptions {
  readonly clock: Clock;
  readonly isShared: boolean;
  /** How long an unused binding lives, in ms. */
  readonly ttlMs: number;
}

export interface ReadPathParts {
  readonly localCopy: LocalCopy;
  readonly writes: WritePath;
  readonly supervisor: StoreSupervisor;
  /** Counts lookups served here; the store counts for itself. */
  readonly counters: StoreCounters;
}

/** A store's own timeout for a lookup is much shorter. */
const READ_LIMIT_MS = 1_000;

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

  /**
   * A key that has no pending write. Restores a binding that the store may have forgotten first.
   */
  #onFound(key: SessionKey, found: Exclude<Lookup, 'unknown'>): Lookup {
    const { localCopy, supervisor } = this.#parts;
    const known = supervisor.status.mayHaveForgotten() ? localCopy.find(key) : undefined;
    if (known) return found === 'absent' || known.generation > found.generation ? known : found;
    if (found === 'absent') localCopy.forget(key);
    else localCopy.remember(found);
    return found;
  }
}
