/** The read on the request path: synchronous, and never a wait. */
import type { Binding, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import type { HotCache } from '../hot-cache.ts';
import type { PendingWrites } from './pending-writes.ts';
import { isBusy, toSqliteStoreError } from './errors.ts';
import type { Freshness } from './freshness.ts';
import type { SqliteReader } from './reader.ts';
import type { Lookup, OnStoreOperation, StoreError } from '../store.ts';
import type { StoreCounters } from '../write-methods.ts';

export interface LookupParts {
  readonly reader: SqliteReader;
  readonly hot: HotCache<Binding>;
  readonly freshness: Freshness;
  readonly pending: Pick<PendingWrites, 'has' | 'apply'>;
  readonly counters: StoreCounters;
  readonly clock: Clock;
  readonly onOperation: OnStoreOperation | undefined;
  /** Told once when reads begin to fail, not of every one. */
  readonly onError: (error: StoreError) => void;
  /** Whether what is in the file is worth nothing any more. */
  readonly isDamaged: () => boolean;
}

export function createLookup(parts: LookupParts): (key: SessionKey) => Lookup {
  const { hot, freshness, pending, counters, clock, isDamaged } = parts;
  const read = createRead(parts);
  return (key) => {
    counters.lookups += 1;
    const now = clock.now();
    const isPending = pending.has(key);
    const isFresh = freshness.check();
    // The check may have found that.
    if (isDamaged()) return 'unknown';
    const known = isFresh && !isPending ? hot.get(key, now) : undefined;
    if (known !== undefined) return known;
    const found = read(key);
    if (found === 'unknown') return 'unknown';
    const binding = isPending ? pending.apply(key, found) : found;
    if (binding === undefined || binding.expiresAt <= now) return 'absent';
    if (!isPending) hot.set(binding);
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
