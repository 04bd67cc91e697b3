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
import type { Freshness } from './freshness.ts';
import { createRowReader } from './rows.ts';
import type { Lookup, OnStoreOperation, StoreError } from '../store.ts';
import type { StoreCounters } from '../write-methods.ts';

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

export interface LookupParts {
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
