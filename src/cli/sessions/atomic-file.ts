/** A file that appears under its name whole, or not at all. */
import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { open, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { SignalSource } from '../../app/lifecycle.ts';

export interface FileSurroundings {
  readonly events: SignalSource;
  /** Ends the process as that signal does by default. */
  readonly endBy: (signal: NodeJS.Signals) => void;
}

/** For its owner alone: it tells who serves whom. */
const MODE = 0o600;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Writes beside the file and takes its place at the end, once all is on the disk. Whatever goes wrong
 * before, be it a signal, leaves nothing; only SIGKILL leaves what was written under another name.
 */
export async function replaceFile(
  path: string,
  chunks: AsyncIterable<string>,
  surroundings: FileSurroundings,
): Promise<void> {
  const target = await findTarget(path);
  const temporary = join(dirname(target), `.${basename(target)}.${randomUUID()}.tmp`);
  const stopWatching = removeOnSignal(temporary, surroundings);
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

/** What a link leads to is replaced, and not the link; what is no file is not replaced. */
async function findTarget(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  if (!found) return resolve(path);
  if (!found.isFile()) throw new Error('it is there, and is no file');
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

/** Or a power cut could take the new name away again. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function removeOnSignal(path: string, { events, endBy }: FileSurroundings): () => void {
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
