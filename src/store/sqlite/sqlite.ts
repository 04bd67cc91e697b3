/**
 * The store in a SQLite file: bindings survive the process, and several processes may share one
 * file. Nothing here blocks the event loop:
 *
 *     lookup ─ pending writes? ─ yes ─> point read, and the pending writes applied to it
 *              └ no ─ hot cache, fresh ─ hit ─> the cached binding
 *                     └ miss, or not fresh ─> point read (read-only connection, never waits)
 *     writes ─> queue ─> writer thread: one commit a batch
 *
 * A write whose promise has resolved survives a crash of the process; a power failure loses what was
 * not checkpointed. A binding that another process makes is visible at once, because absence is not
 * cached; what another process changes or removes, within a second.
 *
 * A damaged file:
 *
 *     opened ─ sound ─> used ─ a read or a write finds damage ─> all `unknown` or rejected ─ closed ─┐
 *            ├ damaged, ours ─> quarantined, opened again, once <── opened <── quarantined <────────┘
 *            └ damaged, not ours; another program's; a newer schema ─> rejected, left as it is
 *
 * A file that was moved, replaced or deleted while it was open is damaged to this store, which does
 * not touch it any more: the next process that opens the path gets what is there.
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
   * Errors that no caller gets: reads that began to fail, a writer thread that died, detected
   * damage; and, while the store opens or closes, a damaged file that was quarantined.
   */
  readonly onError?: (error: StoreError) => void;
}

/**
 * Rejects with a {@link StoreError} that names the path, the problem and the remedy; `damaged` only
 * if the replacement of a damaged file is damaged as well.
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<LocalStore> {
  const path = await prepareStorePath(options.path);
  try {
    const database = inodeOf(path);
    const log = inodeOf(logOf(path));
    return await open(path, options).catch((error: unknown) => {
      const why = toSqliteStoreError('opening', error);
      refuseUnlessMendable(path, why);
      // If the file was missing, another process's file may exist by now.
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

/** Throws unless opening the path again may help. */
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
    const quarantined = quarantineFile(path, files, clock.now());
    if (quarantined !== undefined) onError?.(describeQuarantined(path, quarantined, why));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new StoreError('fatal', `${why.message}, and it could not be quarantined: ${reason}`, {
      cause,
    });
  }
}
