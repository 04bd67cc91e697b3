/**
 * The store in a SQLite file: bindings survive the process, and several processes may share one
 * file. Nothing here waits on the event loop:
 *
 *     lookup ─ pending writes? ─ yes ─> point read, and the pending writes applied to it
 *              └ no ─ hot cache, fresh ─ hit ─> answer
 *                     └ miss, or not fresh ─> point read (read-only connection, never waits)
 *     writes ─> queue ─> writer thread: one commit a batch
 *
 * A write whose promise has resolved survives a crash of the process; of a power cut only what was
 * checkpointed does. A binding that another process makes is seen at once, for what is absent is
 * not cached; what it changes or removes, within a second.
 */
import type { Binding, SessionKey } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';
import { backoffDelayMs } from '../resilience.ts';
import { createHotCache } from './hot-cache.ts';
import type { HotCache } from './hot-cache.ts';
import { toStoreError } from './sqlite-errors.ts';
import { createFreshness } from './sqlite-freshness.ts';
import { createLookup } from './sqlite-lookup.ts';
import { describeOpenFailure, prepareStorePath } from './sqlite-path.ts';
import { openSqliteReader } from './sqlite-reader.ts';
import type { SqliteReader } from './sqlite-reader.ts';
import { createWriterThread } from './sqlite-thread.ts';
import type { WriterThread } from './sqlite-thread.ts';
import type {
  LocalStore,
  OnStoreOperation,
  StoreError,
  StoreLimits,
  StoreOperation,
} from './store.ts';
import { createStoreCounters, createWriteMethods } from './write-methods.ts';
import type { StoreCounters } from './write-methods.ts';
import { createWriteQueue } from './write-queue.ts';
import type { WriteQueue } from './write-queue.ts';

/** About 25 MB when full: the sessions that one sidecar is expected to have in use at once. */
const MAX_HOT_BINDINGS = 100_000;
/** Rows removed in one commit of a clean-up: short enough that a write in between hardly waits. */
const CLEANUP_STRIDE = 500;
const PAGE_ROWS = 500;

export interface SqliteStoreOptions {
  /** Of the database file; missing directories are created. */
  readonly path: string;
  readonly clock: Clock;
  readonly limits: StoreLimits;
  /** Attempts after the first one at a database that another process has locked, 1 s each. */
  readonly retryCount: number;
  /** The longest pause before the first of these; each later one may be twice as long. */
  readonly retryDelayMs: number;
  readonly random: () => number;
  readonly onOperation?: OnStoreOperation;
  /** What no caller hears of: reads that began to fail, a writer thread that died. */
  readonly onError?: (error: StoreError) => void;
}

/** Rejects with a {@link StoreError} that names the path, what was found and what to do. */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<LocalStore> {
  const path = await prepareStorePath(options.path);
  const { clock, limits, onError } = options;
  const thread = createWriterThread({ path, limits }, clock, (death) => onError?.(death));
  try {
    await thread.start();
    return createSqliteStore(openSqliteReader(path), thread, options);
  } catch (error) {
    await thread.stop();
    throw describeOpenFailure(path, toStoreError('opening', error));
  }
}

function createSqliteStore(
  reader: SqliteReader,
  thread: WriterThread,
  options: SqliteStoreOptions,
): LocalStore {
  const { clock, limits, onOperation, onError } = options;
  const counters = createStoreCounters();
  const hot = createHotCache<Binding>(MAX_HOT_BINDINGS);
  const closing = new AbortController();
  const queue = createWriteQueue({
    ask: (request) => thread.ask(request),
    waitToRetry: createBackoff(options, closing.signal),
    onSettled: ({ key }, outcome) => {
      if (outcome?.after) hot.set(outcome.after);
      else hot.delete(key);
    },
    onEvicted: (keys) => forgetAll(hot, keys),
    maxAgeMs: limits.maxAgeMs,
  });
  const freshness = createFreshness({
    clock,
    askForStamp: () => thread.ask({ kind: 'stamp' }),
    onForeignWrite: () => hot.clear(),
  });
  const { pending } = queue;
  const parts = { reader, hot, freshness, pending, counters, clock };
  const lookup = createLookup({ ...parts, onOperation, onError });
  const timed = createTimed(clock, counters, onOperation);
  let closed: Promise<void> | undefined;

  return {
    kind: 'sqlite',
    isShared: false,
    lookup: (key) => (closed ? 'unknown' : lookup(key)),
    ...createWriteMethods(clock, counters, (write) => timed(write.kind, () => queue.write(write))),
    cleanup: () => timed('cleanup', () => cleanUp(queue, hot, counters, clock)),
    entries: () => pageThrough(queue, clock),
    getMetrics: async () => {
      const counted = await queue.ask({ kind: 'count', now: clock.now() });
      return { ...counted, ...counters };
    },
    close: () => (closed ??= close(queue, reader, thread, closing)),
  };
}

async function close(
  queue: WriteQueue,
  reader: SqliteReader,
  thread: WriterThread,
  closing: AbortController,
): Promise<void> {
  // Writes that wait to try again do so now, and for the last time.
  closing.abort();
  await queue.close();
  // Before the writer, so that the last one to close is one that can empty the log file.
  reader.close();
  await thread.stop();
}

/** Removes a stride at a time, so that writes get in between. */
async function cleanUp(
  queue: WriteQueue,
  hot: HotCache<Binding>,
  counters: StoreCounters,
  clock: Clock,
): Promise<number> {
  const now = clock.now();
  let total = 0;
  let removedCount: number;
  do {
    const removed = await queue.ask({ kind: 'cleanup', now, maxRemoved: CLEANUP_STRIDE });
    forgetAll(hot, removed.evicted);
    removedCount = removed.removedCount;
    total += removedCount;
  } while (removedCount >= CLEANUP_STRIDE);
  counters.lastCleanupAt = clock.now();
  return total;
}

function forgetAll(hot: HotCache<Binding>, keys: readonly SessionKey[]): void {
  for (const key of keys) hot.delete(key);
}

async function* pageThrough(queue: WriteQueue, clock: Clock): AsyncGenerator<Binding> {
  let after: SessionKey | undefined;
  do {
    const now = clock.now();
    const page = await queue.ask({ kind: 'page', after, now, maxRows: PAGE_ROWS });
    yield* page.bindings;
    after = page.next;
  } while (after !== undefined);
}

function createBackoff(
  { clock, random, retryCount, retryDelayMs }: SqliteStoreOptions,
  signal: AbortSignal,
): (pause: number) => Promise<boolean> {
  return async (pause) => {
    if (pause >= retryCount || signal.aborted) return false;
    await clock.sleep(backoffDelayMs(pause, { delayMs: retryDelayMs }, random), signal);
    return true;
  };
}

function createTimed(
  clock: Clock,
  counters: StoreCounters,
  onOperation: OnStoreOperation | undefined,
) {
  return async <Result>(operation: StoreOperation, run: () => Promise<Result>): Promise<Result> => {
    const startedAt = clock.monotonicMs();
    try {
      const result = await run();
      onOperation?.(operation, 'ok', clock.monotonicMs() - startedAt);
      return result;
    } catch (error) {
      counters.errors += 1;
      onOperation?.(operation, 'error', clock.monotonicMs() - startedAt);
      throw error;
    }
  };
}
