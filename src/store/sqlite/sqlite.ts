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
import {
  quarantineFile,
  quarantineLog,
  wasOurs,
  inodeOf,
  logOf,
  type OpenedFiles,
} from './file.ts';
import { StaleFileError, toSqliteStoreError } from './errors.ts';
import { openFileStore, type FileStoreOptions } from './file-store.ts';
import { StoreError, type LocalStore, type StoreErrorCode } from '../store.ts';
import { constants } from 'node:fs';
import { access, mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { messageOf } from '../../errors.ts';

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
    throw new StoreError(
      'fatal',
      `${why.message}, and it could not be quarantined: ${messageOf(cause)}`,
      {
        cause,
      },
    );
  }
}

/*
 * Prepares the path of the SQLite file before SQLite opens it, because SQLite's errors name no
 * reason.
 */

const ADVICE =
  'mount a volume there that this user may write, or set SESSION_STORE_PATH to another file';

/**
 * Creates the missing directories and returns the absolute path. Rejects with a `fatal` {@link
 * StoreError} that names the path, the problem and the remedy.
 */
export async function prepareStorePath(path: string): Promise<string> {
  if (path === '' || path === ':memory:') {
    throw unusable(
      path,
      'that is not a file',
      'set SESSION_STORE_URL=memory: for a store in memory',
    );
  }
  const absolute = resolve(path);
  const directory = dirname(absolute);
  await createDirectories(directory).catch((error: unknown) => {
    throw unusable(
      absolute,
      `its directory cannot be created (${messageOf(error)})`,
      ADVICE,
      error,
    );
  });
  const found = await stat(absolute).catch(() => undefined);
  if (found !== undefined && !found.isFile()) {
    throw unusable(
      absolute,
      'it is not a file',
      'set SESSION_STORE_PATH to a file, not a directory',
    );
  }
  // SQLite keeps two more files beside it, so the directory must be writable as well.
  for (const place of found ? [directory, absolute] : [directory]) {
    await access(place, constants.W_OK).catch((error: unknown) => {
      throw unusable(absolute, `${place} is not writable (${messageOf(error)})`, ADVICE, error);
    });
  }
  return absolute;
}

/**
 * Not mkdir's `recursive`, which retries for ever if a file system fails with "no such file", as
 * /proc does.
 */
export async function createDirectories(path: string): Promise<void> {
  if (await isDirectory(path)) return;
  if (dirname(path) !== path) await createDirectories(dirname(path));
  await mkdir(path).catch(async (error: unknown) => {
    // Another process was faster.
    if (!(await isDirectory(path))) throw error;
  });
}

async function isDirectory(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isDirectory() ?? false;
}

/** SQLite's message about the file, with the path and the remedy. Keeps the code. */
export function describeSqliteOpenFailure(path: string, error: StoreError): StoreError {
  const advice =
    error.code === 'fatal' || error.code === 'damaged'
      ? 'move it away or set SESSION_STORE_PATH to another file'
      : 'try again';
  return unusable(path, error.message, advice, error, error.code);
}

/** Reports the quarantine of a damaged file, and what to do with it. */
function describeQuarantined(path: string, quarantined: string, why: StoreError): StoreError {
  return unusable(
    path,
    `it was damaged (${why.message}) and is now ${JSON.stringify(quarantined)}`,
    'a new file replaces it, without the bindings that only this one held; delete it, or ' +
      'recover it with ".recover" of the sqlite3 program',
    why,
    'damaged',
  );
}

function unusable(
  path: string,
  found: string,
  advice: string,
  cause?: unknown,
  code: StoreErrorCode = 'fatal',
): StoreError {
  return new StoreError(code, `session store ${JSON.stringify(path)}: ${found}; ${advice}`, {
    cause,
  });
}
