/** The store on one file, from its opening until it is closed. `sqlite.ts` handles damage. */
import type { Binding, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { backoffDelayMs } from '../../resilience.ts';
import { createHotCache, type HotCache } from '../hot-cache.ts';
import { type OpenedFiles, fileMoved, haveMoved } from './file.ts';
import { toSqliteStoreError } from './errors.ts';
import { createFreshness, createLookup, openSqliteReader, type SqliteReader } from './reader.ts';
import { WriterThread } from './thread.ts';
import type {
  LocalStore,
  OnStoreOperation,
  Owners,
  StoreError,
  StoreLimits,
  PeerPage,
} from '../store.ts';
import {
  createTimed,
  createStoreCounters,
  createWriteMethods,
  type StoreCounters,
} from '../write-methods.ts';
import { createWriteQueue, type WriteQueue, type Ask } from './write-queue.ts';
import type { RequestKind, RequestOf } from './protocol.ts';

/** About 25 MB when full: the sessions that one sidecar is expected to use at a time. */
const MAX_HOT_BINDINGS = 100_000;
/** In one clean-up: about a millisecond of the thread that serves requests. */
const MAX_HOT_LOOKED_AT = 20_000;
/** Rows removed in one commit of a clean-up: few enough that a write in between hardly waits. */
const CLEANUP_STRIDE = 500;
const PAGE_ROWS = 500;
/** Rows of other owners that one request skips: one or two milliseconds of the writer. */
const MAX_SCANNED = 10_000;

export interface FileStoreOptions {
  readonly path: string;
  readonly clock: Clock;
  readonly limits: StoreLimits;
  /** Attempts after the first one at a database that another process has locked, 1 s each. */
  readonly retryCount: number;
  /** The longest pause before the first retry; each later one may be twice as long. */
  readonly retryDelayMs: number;
  readonly random: () => number;
  readonly onOperation?: OnStoreOperation;
  /** Called with errors that no caller gets. */
  readonly onError?: (error: StoreError) => void;
  /** Called with the files that were open, after all of them are closed, if damage was found. */
  readonly onClosedDamaged: (files: OpenedFiles, why: StoreError) => void;
}

/** Rejects with a {@link StoreError}, or one of SQLite's. */
export async function openFileStore(options: FileStoreOptions): Promise<LocalStore> {
  const { path, clock, limits, onError } = options;
  const closing = new AbortController();
  const hot = createHotCache<Binding>(MAX_HOT_BINDINGS);
  const onDeath = (error: StoreError): void => {
    // The evictions of its last write were not reported.
    hot.clear();
    onError?.(error);
  };
  const thread = new WriterThread({ path, limits, clock, signal: closing.signal, onDeath });
  try {
    const files = await thread.start();
    const reader = openSqliteReader(path, files.database);
    return createFileStore({ files, thread, reader, hot, closing }, options);
  } catch (error) {
    await thread.stop();
    throw error;
  }
}

interface Opened {
  readonly files: OpenedFiles;
  readonly thread: WriterThread;
  readonly reader: SqliteReader;
  readonly hot: HotCache<Binding>;
  /** Aborts all waiting. */
  readonly closing: AbortController;
}

function createFileStore(opened: Opened, options: FileStoreOptions): LocalStore {
  const { path, clock, limits, onOperation, onError } = options;
  const { files, thread, hot, reader } = opened;
  const counters = createStoreCounters();
  const damage = watchForDamage({ path, files, ask: (request) => thread.ask(request), onError });
  const queue = createWriteQueue({
    ask: damage.ask,
    waitToRetry: createBackoff(options, opened.closing.signal),
    onSettled: ({ key }, outcome) => {
      if (outcome?.after) hot.set(outcome.after);
      else hot.delete(key);
    },
    onEvicted: (keys) => forgetAll(hot, keys),
  });
  const freshness = createFreshness({
    clock,
    askForStamp: () => {
      damage.checkFiles();
      return damage.ask({ kind: 'stamp' });
    },
    onForeignWrite: () => hot.clear(),
  });
  const lookup = createLookup({
    ...{ reader, hot, freshness, pending: queue.pending, maxAgeMs: limits.maxAgeMs },
    ...{ counters, clock, onOperation },
    onError: damage.report,
    isDamaged: () => damage.found() !== undefined,
  });
  const timed = createTimed(clock, counters, onOperation);
  let closed: Promise<void> | undefined;

  return {
    kind: 'sqlite',
    isShared: false,
    lookup: (key) => (closed ? 'unknown' : lookup(key)),
    ...createWriteMethods(clock, counters, (write) => timed(write.kind, () => queue.write(write))),
    cleanup: () => timed('cleanup', () => cleanUp(queue, hot, counters, clock)),
    entries: () => pageThrough(queue, clock),
    pages: (owners) => pick(queue, owners, clock),
    addCopies: async (copies) => {
      const now = Math.floor(clock.now());
      const { entered, replaced } = await queue.ask({ kind: 'addCopies', copies, now });
      forgetAll(hot, replaced);
      return entered;
    },
    getMetrics: async () => {
      const counted = await queue.ask({ kind: 'count', now: clock.now() });
      return { ...counted, ...counters };
    },
    close: () => (closed ??= close(queue, opened, damage, options)),
  };
}

async function close(
  queue: WriteQueue,
  { files, reader, thread, closing }: Opened,
  damage: DamageWatch,
  { onError, onClosedDamaged }: FileStoreOptions,
): Promise<void> {
  // Writes that wait for a retry run now, for the last time.
  closing.abort();
  await queue.close();
  // Before the files are closed: the last connection to close deletes the log.
  damage.checkFiles();
  // Before the writer, so that the last connection to close is one that can empty the log file.
  reader.close();
  await thread.stop();
  const why = damage.found();
  if (why === undefined) return;
  try {
    onClosedDamaged(files, why);
  } catch (error) {
    onError?.(toSqliteStoreError('closing', error));
  }
}

/** Removes in strides, so that writes run in between. */
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
  hot.forgetExpired(now, MAX_HOT_LOOKED_AT);
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

async function* pick(queue: WriteQueue, owners: Owners, clock: Clock): AsyncGenerator<PeerPage> {
  let after: SessionKey | undefined;
  do {
    const now = Math.floor(clock.now());
    const request = { kind: 'pick', owners, after, now, maxScanned: MAX_SCANNED } as const;
    const { page, next } = await queue.ask(request);
    yield page;
    after = next;
  } while (after !== undefined);
}

function createBackoff(
  { clock, random, retryCount, retryDelayMs }: FileStoreOptions,
  signal: AbortSignal,
): (pause: number) => Promise<boolean> {
  return async (pause) => {
    if (pause >= retryCount || signal.aborted) return false;
    await clock.sleep(backoffDelayMs(pause, { delayMs: retryDelayMs }, random), signal);
    return true;
  };
}

interface DamageWatch {
  readonly found: () => StoreError | undefined;
  /** Reports an error that no caller gets; of several damage reports, only the first. */
  readonly report: (error: StoreError) => void;
  /** Checks whether the file is still at its path. */
  readonly checkFiles: () => void;
  /**
   * Sends a request to the writer. Once there is damage every request is rejected: a write now
   * would be lost with the file.
   */
  readonly ask: Ask;
}

interface DamageWatchOptions {
  readonly path: string;
  readonly files: OpenedFiles;
  readonly ask: Ask;
  readonly onError: ((error: StoreError) => void) | undefined;
}

/**
 * Damage of the open file: reported once, and from then on the file is neither read nor written.
 * Opening the path again repairs it.
 */
function watchForDamage({ path, files, ask, onError }: DamageWatchOptions): DamageWatch {
  let damage: StoreError | undefined;
  const reportOnce = (error: StoreError): void => {
    if (error.code === 'damaged') {
      if (damage) return;
      damage = error;
    }
    onError?.(error);
  };
  const refuse = (): void => {
    if (damage) throw damage;
  };
  return {
    found: () => damage,
    report: reportOnce,
    checkFiles: () => {
      if (!damage && haveMoved(path, files)) reportOnce(fileMoved(path));
    },
    ask: async <Kind extends RequestKind>(request: RequestOf<Kind>) => {
      refuse();
      try {
        const response = await ask(request);
        // A read may have found damage meanwhile.
        refuse();
        return response;
      } catch (error) {
        const failure = toSqliteStoreError(`store ${request.kind}`, error);
        // The caller reports any other error.
        if (failure.code === 'damaged') reportOnce(failure);
        throw failure;
      }
    },
  };
}
