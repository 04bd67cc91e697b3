/**
 * The point read on the main thread: through a connection that can't write and doesn't wait. In WAL
 * mode a reader needs no lock that a writer holds, so that "busy" is rare and means "unknown".
 */
import type { Clock } from '../../clock.ts';
import type { Binding, SessionKey } from '../../session.ts';
import type { HotCache } from '../hot-cache.ts';
import type { PendingWrites } from '../in-flight.ts';
import { applyWrites } from '../rules.ts';
import { isBusy, toSqliteStoreError } from './errors.ts';
import { openInPlace, type Inode } from './file.ts';
import { createRowReader } from './rows.ts';
import type { Lookup, OnStoreOperation, StoreError } from '../store.ts';
import type { StoreCounters } from '../write-methods.ts';
import type { Stamp } from './protocol.ts';
import type { WriterResult } from './thread.ts';

export interface SqliteReader {
  /**
   * The committed binding, expired or not. Throws SQLite's errors, and a `damaged` one for invalid
   * rows.
   */
  find(key: SessionKey): Binding | undefined;
  close(): void;
}

/**
 * Opens the file that the writer thread has open already. Throws SQLite's errors, and a {@link
 * StaleFileError} if the file is no longer at the path. Damage counts only after a fresh connection
 * has confirmed it.
 */
export function openSqliteReader(path: string, database: Inode): SqliteReader {
  const open = (): SqliteReader => openOnce(path, database);
  let reader = unlessDamaged(open, open);
  return {
    find: (key) =>
      unlessDamaged(
        () => reader.find(key),
        () => {
          const fresh = open();
          reader.close();
          reader = fresh;
          return fresh.find(key);
        },
      ),
    close: () => reader.close(),
  };
}

function openOnce(path: string, database: Inode): SqliteReader {
  const db = openInPlace(path, database, { readonly: true, timeout: 0 });
  try {
    const rows = createRowReader(db);
    return { find: (key) => rows.find(key), close: () => void db.close() };
  } catch (error) {
    db.close();
    throw error;
  }
}

function unlessDamaged<Result>(read: () => Result, readAfresh: () => Result): Result {
  try {
    return read();
  } catch (error) {
    if (toSqliteStoreError('reading', error).code !== 'damaged') throw error;
    return readAfresh();
  }
}

interface LookupParts {
  readonly reader: SqliteReader;
  readonly hot: HotCache<Binding>;
  readonly freshness: Freshness;
  readonly pending: Pick<PendingWrites, 'of'>;
  readonly maxAgeMs: number;
  readonly counters: StoreCounters;
  readonly clock: Clock;
  readonly onOperation: OnStoreOperation | undefined;
  /** Called when reads begin to fail, not for every failed read. */
  readonly onError: (error: StoreError) => void;
  /** Whether the file is damaged or no longer at its path. */
  readonly isDamaged: () => boolean;
}

export function createLookup(parts: LookupParts): (key: SessionKey) => Lookup {
  const { hot, freshness, pending, maxAgeMs, counters, clock, isDamaged } = parts;
  const read = createRead(parts);
  return (key) => {
    counters.lookups += 1;
    const now = clock.now();
    const writes = pending.of(key);
    const isFresh = freshness.check();
    // The check may have found damage.
    if (isDamaged()) return 'unknown';
    const known = isFresh && !writes ? hot.get(key, now) : undefined;
    if (known !== undefined) return known;
    const found = read(key);
    if (found === 'unknown') return 'unknown';
    const binding = writes ? applyWrites(writes, found, maxAgeMs) : found;
    if (binding === undefined || binding.expiresAt <= now) return 'absent';
    if (!writes) hot.set(binding);
    return binding;
  };
}

function createRead({
  reader,
  counters,
  clock,
  onOperation,
  onError,
}: LookupParts): (key: SessionKey) => Binding | undefined | 'unknown' {
  let isFailing = false;
  return (key) => {
    const startedAt = clock.monotonicMs();
    try {
      const found = reader.find(key);
      isFailing = false;
      onOperation?.('lookup', 'ok', clock.monotonicMs() - startedAt);
      return found;
    } catch (error) {
      counters.errors += 1;
      onOperation?.('lookup', 'error', clock.monotonicMs() - startedAt);
      if (!isBusy(error) && !isFailing) {
        isFailing = true;
        onError(toSqliteStoreError('store lookup', error));
      }
      return 'unknown';
    }
  };
}

/**
 * Says whether cached reads of the file are still valid, though other processes write to it. The
 * writer thread returns a stamp that changes only when another connection has committed
 * (https://www.sqlite.org/pragma.html#pragma_data_version): an equal stamp proves that no other
 * process has written since the last response, and our own writes are known anyway.
 *
 *     check ─ last request 250 ms ago or earlier, none in flight ─> sends one; waits for nothing
 *     response ─ another stamp than the last ─> onForeignWrite: the cache is cleared
 *              └ else ─> verified as of the time of the REQUEST: the response may have been slow
 *     check ─ verified within the last second ─> fresh, else not
 *
 * Why an equal stamp also proves what was read before the last response: that response verified it,
 * or invalidated it. The result of a write is committed before the stamp is read or after it, and
 * the responses are handled in the same order: the thread responds in order, and Node runs the
 * reactions to one message before it delivers the next.
 *
 * There is no timer: without reads no check is needed. While the thread waits for a lock, or is
 * gone, nothing is fresh after a second, and reads go to the file.
 */
export interface Freshness {
  /** True if a write of another process more than a second ago would have been noticed. */
  check(): boolean;
}

interface FreshnessOptions {
  readonly clock: Clock;
  /**
   * May reject. Does not use the write queue: it needs no lock, and would wait behind writes that
   * do.
   */
  readonly askForStamp: () => Promise<WriterResult<'stamp'>>;
  /**
   * Also called for the first stamp, and for that of another thread: these can't be compared with
   * earlier ones.
   */
  readonly onForeignWrite: () => void;
}

/** A quarter of the staleness limit, so that a late response does not force a read. */
const QUESTION_INTERVAL_MS = 250;
/** What another process writes is visible within this time. */
const MAX_UNSEEN_MS = 1_000;

export function createFreshness(options: FreshnessOptions): Freshness {
  const { clock, askForStamp, onForeignWrite } = options;
  let askedAt = -Infinity;
  let verifiedAt = -Infinity;
  let isUnderWay = false;
  let lastStamp: Stamp | undefined;

  const verify = async (): Promise<void> => {
    try {
      const stamp = await askForStamp();
      if (typeof stamp === 'string') return;
      if (!isSame(stamp, lastStamp)) onForeignWrite();
      lastStamp = stamp;
      verifiedAt = askedAt;
    } catch {
      // Then nothing is fresh, and reads of the file report the problem.
    } finally {
      isUnderWay = false;
    }
  };

  return {
    check: () => {
      const now = clock.monotonicMs();
      if (now - askedAt >= QUESTION_INTERVAL_MS && !isUnderWay) {
        askedAt = now;
        isUnderWay = true;
        void verify();
      }
      return now - verifiedAt < MAX_UNSEEN_MS;
    },
  };
}

function isSame(one: Stamp, other: Stamp | undefined): boolean {
  return one.threadId === other?.threadId && one.dataVersion === other.dataVersion;
}
