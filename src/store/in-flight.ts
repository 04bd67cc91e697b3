/**
 * The writes in flight, of each key one after the other: the one place that keeps their order. A
 * write that is retried, or accepted elsewhere after a failure, takes effect before the writes
 * called after it, and a read sees the writes called before it.
 *
 *     write ─ earlier writes and reads of its key ended ──> performed, alone
 *     read ── earlier writes of its key ended ────────────> performed, other reads beside it
 */
import type { SessionKey } from '../session.ts';
import type { Write } from './rules.ts';

/** `Result` is what a write resolves to. */
export interface WritesInFlight<Result> {
  /** See {@link PendingWrites}. */
  of(key: SessionKey): readonly Write[] | undefined;
  /**
   * Calls `perform` when all earlier writes and reads of the key have ended; at once if there are
   * none. Settles as `perform` does, when the write is no longer in flight.
   */
  run(write: Write, perform: () => Promise<Result>): Promise<Result>;
  /**
   * Calls `perform` when all earlier writes of the key have ended, with the result of the last one;
   * with undefined if there was none or it failed.
   */
  read<Found>(
    key: SessionKey,
    perform: (written: Result | undefined) => Promise<Found>,
  ): Promise<Found>;
  /**
   * For a read that waits for no write. Call the result once, when the read is back: it says
   * whether a write of the key was called meanwhile, or `cross`; then the read value may be older.
   */
  beginRead(key: SessionKey): () => boolean;
  /** The binding was changed by other means than a write. */
  cross(key: SessionKey): void;
  /** Resolves once everything called so far has ended. */
  ended(): Promise<void>;
}

/** What was called of one key and has not ended. */
interface OfKey<Result> {
  count: number;
  /** The last write, if one is in flight. */
  write: Promise<Result> | undefined;
  /** Settles when all of it has ended. */
  all: Promise<unknown> | undefined;
}

interface Reads {
  count: number;
  isCrossed: boolean;
}

export function createWritesInFlight<Result>(): WritesInFlight<Result> {
  return new OrderedWrites<Result>();
}

class OrderedWrites<Result> implements WritesInFlight<Result> {
  readonly #pending = createPendingWrites();
  readonly #byKey = new Map<SessionKey, OfKey<Result>>();
  readonly #reading = new Map<SessionKey, Reads>();

  of(key: SessionKey): readonly Write[] | undefined {
    return this.#pending.of(key);
  }

  run(write: Write, perform: () => Promise<Result>): Promise<Result> {
    const { key } = write;
    this.cross(key);
    this.#pending.add(write);
    const ofKey = this.#enter(key);
    const end = (): void => {
      this.#pending.settle(write);
      if (ofKey.write === done) ofKey.write = undefined;
      this.#leave(key, ofKey);
    };
    const done = (ofKey.all ? ofKey.all.then(perform, perform) : perform()).then(
      (result) => {
        end();
        return result;
      },
      (error: unknown) => {
        end();
        throw error;
      },
    );
    ofKey.write = done;
    ofKey.all = done;
    return done;
  }

  read<Found>(
    key: SessionKey,
    perform: (written: Result | undefined) => Promise<Found>,
  ): Promise<Found> {
    const ofKey = this.#enter(key);
    const { write, all } = ofKey;
    const found = write ? write.then(perform, () => perform(undefined)) : perform(undefined);
    const end = (): void => this.#leave(key, ofKey);
    const done = found.then(end, end);
    // Holds no results: reads that overlap without a gap would add up.
    const next = (): Promise<void> => done;
    ofKey.all = all ? all.then(next, next) : done;
    return found;
  }

  beginRead(key: SessionKey): () => boolean {
    const reads = this.#reading.get(key) ?? { count: 0, isCrossed: false };
    reads.count += 1;
    this.#reading.set(key, reads);
    return () => {
      reads.count -= 1;
      if (reads.count === 0) this.#reading.delete(key);
      return reads.isCrossed;
    };
  }

  cross(key: SessionKey): void {
    const reads = this.#reading.get(key);
    if (reads) reads.isCrossed = true;
  }

  async ended(): Promise<void> {
    await Promise.allSettled([...this.#byKey.values()].flatMap(({ all }) => all ?? []));
  }

  #enter(key: SessionKey): OfKey<Result> {
    const found = this.#byKey.get(key);
    const ofKey = found ?? { count: 0, write: undefined, all: undefined };
    if (!found) this.#byKey.set(key, ofKey);
    ofKey.count += 1;
    return ofKey;
  }

  #leave(key: SessionKey, ofKey: OfKey<Result>): void {
    ofKey.count -= 1;
    if (ofKey.count === 0) this.#byKey.delete(key);
  }
}

/** Writes that were called and have not ended; they end in the order of their calls. */
export interface PendingWrites {
  /** Those of the key in the order of their calls, for reads: the list itself never changes. */
  of(key: SessionKey): readonly Write[] | undefined;
  add(write: Write): void;
  /** The oldest write of its key has ended. */
  settle(write: Write): void;
}

/** The pending writes of one key: those from `first` on. */
interface PendingOfKey {
  writes: Write[];
  first: number;
  /** What `of` returned last, until a change. */
  list: readonly Write[] | undefined;
}

/** A list is copied for a read only, and reads apply all writes of it anyway. */
export function createPendingWrites(): PendingWrites {
  const byKey = new Map<SessionKey, PendingOfKey>();
  return {
    of: (key) => {
      const pending = byKey.size === 0 ? undefined : byKey.get(key);
      return pending && (pending.list ??= pending.writes.slice(pending.first));
    },
    add: (write) => {
      const pending = byKey.get(write.key);
      if (!pending) {
        byKey.set(write.key, { writes: [write], first: 0, list: undefined });
        return;
      }
      pending.writes.push(write);
      pending.list = undefined;
    },
    settle: ({ key }) => {
      const pending = byKey.get(key);
      if (!pending) return;
      pending.first += 1;
      pending.list = undefined;
      if (pending.first === pending.writes.length) byKey.delete(key);
      else if (pending.first > pending.writes.length / 2) {
        pending.writes = pending.writes.slice(pending.first);
        pending.first = 0;
      }
    },
  };
}
