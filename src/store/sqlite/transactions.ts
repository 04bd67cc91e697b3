/** What the writer thread does for each request, in one transaction each. */
import { statSync } from 'node:fs';
import { threadId } from 'node:worker_threads';
import type { Database } from 'better-sqlite3';
import type { SessionKey } from '../../session.ts';
import { applyCopy, applyWrite } from '../rules.ts';
import type { Outcome, Write } from '../rules.ts';
import { toSqliteStoreError } from './errors.ts';
import { createPeerPageQuery } from './rows.ts';
import type {
  RequestKind,
  RequestOf,
  WriteResult,
  WriterResponses,
  WriterSettings,
} from './protocol.ts';
import { foundDamage } from './rows.ts';
import { createSessionTable } from './table.ts';
import type { SessionTable } from './table.ts';
import { adoptedCap, EVICTION_ORDER } from '../store.ts';
import type { StoreLimits, PeerCopy } from '../store.ts';

/** More than a batch can add, and still a short commit after the bound was lowered by a million. */
const MAX_EVICTED_PER_COMMIT = 2_000;

/** The methods throw SQLite's errors; then nothing of the request was written. */
export type Transactions = {
  readonly [Kind in RequestKind]: (request: RequestOf<Kind>) => WriterResponses[Kind];
};

export function createTransactions(
  db: Database,
  settings: Pick<WriterSettings, 'path' | 'limits'>,
): Transactions {
  const { path, limits } = settings;
  const table = createSessionTable(db);
  const dataVersion = db.prepare<[], number>('PRAGMA data_version').pluck(true);
  const cleanup = db.transaction((now: number, maxRemoved: number) => {
    const expiredCount = table.removeExpired(now, maxRemoved);
    const evicted = evictExcess(table, limits.maxSessions, maxRemoved - expiredCount);
    return { removedCount: expiredCount + evicted.length, evicted };
  });
  return {
    write: createBatchWriter(db, table, limits),
    cleanup: ({ now, maxRemoved }) => cleanup.immediate(now, maxRemoved),
    count: ({ now }) => ({
      total: countAll(table),
      expired: table.countExpired(now),
      sizeBytes: sizeOf(path) + sizeOf(`${path}-wal`),
    }),
    page: ({ after, now, maxRows }) => {
      const rows = table.page(after, maxRows);
      const bindings = rows.filter((binding) => binding.expiresAt > now);
      return { bindings, next: rows.length < maxRows ? undefined : rows.at(-1)?.key };
    },
    pick: createPeerPageQuery(db),
    addCopies: createCopyWriter(db, table, limits),
    stamp: () => ({ threadId, dataVersion: Number(dataVersion.get()) }),
    close: () => {
      db.close();
      return undefined;
    },
  };
}

/**
 * Writes a batch in one commit. A write that fails by itself fails alone; if there is no room for
 * all, each is tried in a commit of its own, because some need no room. Damage fails them all.
 */
function createBatchWriter(
  db: Database,
  table: SessionTable,
  limits: StoreLimits,
): Transactions['write'] {
  const commitAll = db.transaction((writes: readonly Write[]): WriterResponses['write'] => {
    const results = writes.map((write) => performWithin(db, table, write, limits.maxAgeMs));
    return { results, evicted: makeRoom(table, limits.maxSessions, writes) };
  });
  const commit = (writes: readonly Write[]): WriterResponses['write'] => {
    try {
      return commitAll.immediate(writes);
    } catch (error) {
      table.forgetMachines();
      throw error;
    }
  };
  return ({ writes }) => {
    try {
      return commit(writes);
    } catch (error) {
      if (writes.length === 1 || toSqliteStoreError('store write', error).code !== 'full')
        throw error;
      return mergeResponses(writes.map((write) => commitAlone(commit, write)));
    }
  };
}

/** Evicts nothing: the caller stops long before the store is full. */
function createCopyWriter(
  db: Database,
  table: SessionTable,
  { maxAgeMs }: StoreLimits,
): Transactions['addCopies'] {
  const addAll = db.transaction((copies: readonly PeerCopy[], now: number) => {
    let entered = 0;
    const replaced: SessionKey[] = [];
    for (const copy of copies) {
      const found = table.find(copy.key);
      const after = applyCopy(copy, now, found, maxAgeMs);
      if (after === undefined) continue;
      table.put(after);
      entered += 1;
      if (found !== undefined) replaced.push(copy.key);
    }
    return { entered, replaced };
  });
  return ({ copies, now }) => {
    try {
      return addAll.immediate(copies, now);
    } catch (error) {
      table.forgetMachines();
      throw error;
    }
  };
}

function commitAlone(
  commit: (writes: readonly Write[]) => WriterResponses['write'],
  write: Write,
): WriterResponses['write'] {
  try {
    return commit([write]);
  } catch (error) {
    const result = failedResult(write, error);
    if (result.failure.code === 'damaged') throw error;
    return { results: [result], evicted: [] };
  }
}

function mergeResponses(responses: readonly WriterResponses['write'][]): WriterResponses['write'] {
  return {
    results: responses.flatMap((response) => response.results),
    evicted: responses.flatMap((response) => response.evicted),
  };
}

/**
 * One write inside the batch's transaction. Throws if SQLite has ended the transaction, and on
 * damage.
 */
function performWithin(
  db: Database,
  table: SessionTable,
  write: Write,
  maxAgeMs: number,
): WriteResult {
  try {
    return { kind: 'done', outcome: perform(table, write, maxAgeMs) };
  } catch (error) {
    const result = failedResult(write, error);
    if (!db.inTransaction || result.failure.code === 'damaged') throw error;
    return result;
  }
}

function perform(table: SessionTable, write: Write, maxAgeMs: number): Outcome {
  const found = table.find(write.key);
  const outcome = applyWrite(write, found, maxAgeMs);
  if (outcome.after === found) return outcome;
  if (outcome.after === undefined) table.remove(write.key);
  else table.put(outcome.after);
  return outcome;
}

function failedResult(write: Write, error: unknown): Extract<WriteResult, { kind: 'failed' }> {
  const { code, message } = toSqliteStoreError(`store ${write.kind}`, error);
  return { kind: 'failed', failure: { code, message } };
}

/** Keeps the bounds at every commit: expired rows are removed before live ones. */
function makeRoom(
  table: SessionTable,
  maxSessions: number,
  writes: readonly Write[],
): SessionKey[] {
  const excess = Math.min(countAll(table) - maxSessions, MAX_EVICTED_PER_COMMIT);
  const now = writes.at(-1)?.now ?? 0;
  const expiredCount = table.removeExpired(now, excess);
  return evictExcess(table, maxSessions, MAX_EVICTED_PER_COMMIT - expiredCount);
}

/**
 * Evicts adopted bindings down to their own bound, then all in the order of eviction; `maxRemoved`
 * at most.
 */
function evictExcess(table: SessionTable, maxSessions: number, maxRemoved: number): SessionKey[] {
  const adoptedExcess = table.count('adopted') - adoptedCap(maxSessions);
  const evicted = table.removeOldest('adopted', Math.min(adoptedExcess, maxRemoved));
  for (const origin of EVICTION_ORDER) {
    const excess = countAll(table) - maxSessions;
    evicted.push(...table.removeOldest(origin, Math.min(excess, maxRemoved - evicted.length)));
  }
  if (evicted.length < maxRemoved && countAll(table) > maxSessions) {
    throw foundDamage('the count of bindings is higher than their number');
  }
  return evicted;
}

function countAll(table: SessionTable): number {
  return EVICTION_ORDER.reduce((sum, origin) => sum + table.count(origin), 0);
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
