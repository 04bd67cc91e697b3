/**
 * Prepares the path of the SQLite file before SQLite opens it, because SQLite's errors name no
 * reason.
 */
import { constants } from 'node:fs';
import { access, mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { StoreError } from '../store.ts';
import type { StoreErrorCode } from '../store.ts';

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
    throw unusable(absolute, `its directory can't be created (${messageOf(error)})`, ADVICE, error);
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
export function describeQuarantined(
  path: string,
  quarantined: string,
  why: StoreError,
): StoreError {
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

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
