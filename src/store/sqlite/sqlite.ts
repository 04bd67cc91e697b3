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
 *
 * What becomes of a file that is damaged:
 *
 *     opened ─ sound ─> used ─ a read or a write finds damage ─> all `unknown` or rejected ─ closed ─┐
 *            ├ damaged, ours ─> set aside, opened anew, once <── opened <── set aside <───────────┘
 *            └ damaged, not ours; another program's; a newer schema ─> refused, left as it is
 *
 * A file that was moved, replaced or deleted while it was open is damaged to this store, and is not
 * touched any more: whoever opens the path next gets what is there.
 */
import { quarantineFile, quarantineLog, wasOurs } from './file.ts';
import { StaleFileError, toSqliteStoreError } from './errors.ts';
import { inodeOf, logOf } from './file.ts';
import type { OpenedFiles } from './file.ts';
import { describeQuarantined, describeSqliteOpenFailure, prepareStorePath } from './path.ts';
import { openFileStore } from './file-store.ts';
import type { FileStoreOptions } from './file-store.ts';
import { StoreError } from '../store.ts';
import type { LocalStore } from '../store.ts';

/** `path` is that of the database file; missing directories are created. */
export interface SqliteStoreOptions extends Omit<FileStoreOptions, 'onClosedDamaged'> {
  /**
   * What no caller hears of: reads that began to fail, a writer thread that died, damage that was
   * found; and, while the store is being opened or closed, a damaged file that was set aside.
   */
  readonly onError?: (error: StoreError) => void;
}

/**
 * Rejects with a {@link StoreError} that names the path, what was found and what to do; `damaged`
 * only if what took the place of a damaged file is damaged as well.
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<LocalStore> {
  const path = await prepareStorePath(options.path);
  try {
    const database = inodeOf(path);
    const log = inodeOf(logOf(path));
    return await open(path, options).catch((error: unknown) => {
      const why = toSqliteStoreError('opening', error);
      refuseUnlessMendable(path, why);
      // Where there was none, there may be another one's by now.
      if (database !== undefined) makeWay(path, { database, log }, why, options);
      return open(path, options);
    });
  } catch (error) {
    throw describeSqliteOpenFailure(path, toSqliteStoreError('opening', error));
  }
}

function open(path: string, options: SqliteStoreOptions): Promise<LocalStore> {
  const onClosedDamaged = (files: OpenedFiles, why: StoreError): void =>
    makeWay(path, files, why, options);
  return openFileStore({ ...options, path, onClosedDamaged });
}

/** Throws unless there is a point in opening the path again. */
function refuseUnlessMendable(path: string, why: StoreError): void {
  if (why.code !== 'damaged') throw why;
  if (why instanceof StaleFileError || wasOurs(path)) return;
  throw new StoreError('fatal', why.message, { cause: why });
}

function makeWay(
  path: string,
  files: OpenedFiles,
  why: StoreError,
  { clock, onError }: SqliteStoreOptions,
): void {
  try {
    if (why instanceof StaleFileError) {
      quarantineLog(path, files, clock.now());
      return;
    }
    const aside = quarantineFile(path, files, clock.now());
    if (aside !== undefined) onError?.(describeQuarantined(path, aside, why));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new StoreError('fatal', `${why.message}, and to set it aside failed: ${reason}`, {
      cause,
    });
  }
}
