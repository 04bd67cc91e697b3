/** Replaces a file as a whole, or not at all. */
import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { open, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { SignalSource } from '../../app/lifecycle.ts';

export interface SignalHandling {
  readonly events: SignalSource;
  /** Ends the process as that signal does by default. */
  readonly endBy: (signal: NodeJS.Signals) => void;
}

/** Readable only by its owner: it lists which Machine owns which session. */
const MODE = 0o600;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Writes a temporary file in the same directory, and renames it once everything is on the disk. A
 * failure or a signal before that leaves nothing behind; only SIGKILL leaves the temporary file.
 */
export async function replaceFile(
  path: string,
  chunks: AsyncIterable<string>,
  signals: SignalHandling,
): Promise<void> {
  const target = await findTarget(path);
  const temporary = join(dirname(target), `.${basename(target)}.${randomUUID()}.tmp`);
  const stopWatching = removeOnSignal(temporary, signals);
  try {
    await writeToDisk(temporary, chunks);
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  } finally {
    stopWatching();
  }
  await syncDirectory(dirname(target));
}

/** Replaces the target of a symbolic link, not the link. Only files are replaced. */
async function findTarget(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  if (!found) return resolve(path);
  if (!found.isFile()) throw new Error('it exists and is not a file');
  return realpath(path);
}

async function writeToDisk(path: string, chunks: AsyncIterable<string>): Promise<void> {
  const file = await open(path, 'wx', MODE);
  try {
    for await (const chunk of chunks) await file.writeFile(chunk);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Without this a power failure could undo the rename. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function removeOnSignal(path: string, { events, endBy }: SignalHandling): () => void {
  const stop = (): void => {
    for (const name of SIGNALS) events.off(name, end);
  };
  const end = (signal: NodeJS.Signals): void => {
    stop();
    rmSync(path, { force: true });
    endBy(signal);
  };
  for (const name of SIGNALS) events.on(name, end);
  return stop;
}
