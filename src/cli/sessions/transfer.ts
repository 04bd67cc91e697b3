/** `export` and `import`. */
import { open, realpath, rename, rm, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { CommandFailed, exitCodeFor, type SessionBackend } from './backend.ts';
import { printMessage, write, type Streams } from './streams.ts';
import type { Clock } from '../../clock.ts';
import type { Binding } from '../../session.ts';
import { formatDocument } from '../../sessions/document.ts';
import { importSessions, type ImportResult, type ImportSummary } from '../../sessions/import.ts';
import { StoreError } from '../../store/store.ts';
import { EXIT_FAILURE, type SignalSource } from '../../app/lifecycle.ts';
import { messageOf } from '../../errors.ts';

interface TransferParts extends Streams, SignalHandling {
  readonly backend: SessionBackend;
  readonly clock: Clock;
}

/** Resolves to the exit code. `file`: undefined for standard output. */
export async function exportSessions(
  file: string | undefined,
  parts: TransferParts,
): Promise<number> {
  const { backend, stdout, stderr, clock } = parts;
  const progress = startProgress({ terminal: stderr, clock, things: 'sessions exported' });
  let count = 0;
  async function* counted(): AsyncGenerator<Binding> {
    for await (const binding of backend.entries({})) {
      progress.update((count += 1));
      yield binding;
    }
  }
  try {
    const chunks = formatDocument(counted());
    if (file !== undefined) await writeFile(file, chunks, parts);
    else for await (const chunk of chunks) await write(stdout, chunk);
  } finally {
    progress.end();
  }
  printMessage(parts, `${count} ${count === 1 ? 'session' : 'sessions'} exported`);
  return 0;
}

async function writeFile(
  file: string,
  chunks: AsyncIterable<string>,
  parts: TransferParts,
): Promise<void> {
  try {
    await replaceFile(file, chunks, parts);
  } catch (error) {
    if (error instanceof StoreError || error instanceof CommandFailed) throw error;
    throw CommandFailed.file(`cannot write ${JSON.stringify(file)}: ${messageOf(error)}`, error);
  }
}

/** `file`: undefined for standard input. Rejects if it can't be opened, before a store is opened. */
export async function openSource(file: string | undefined, stdin: Readable): Promise<Readable> {
  if (file === undefined) return stdin;
  try {
    return (await open(file)).createReadStream();
  } catch (error) {
    throw CommandFailed.file(`cannot read ${JSON.stringify(file)}: ${messageOf(error)}`, error);
  }
}

/** Resolves to the exit code. */
export async function importFrom(
  source: Readable,
  isDryRun: boolean,
  parts: TransferParts,
): Promise<number> {
  const { backend, stdout, stderr, clock } = parts;
  const progress = startProgress({ terminal: stderr, clock, things: 'sessions read' });
  const { summary, ended } = await importSessions(source as AsyncIterable<Buffer>, {
    merge: (bindings) => backend.merge(bindings, isDryRun),
    batchSize: backend.mergeBatchSize,
    onProgress: progress.update,
  });
  progress.end();
  stderr.write(describeBadLines(summary));
  if (ended.kind !== 'complete') printMessage(parts, describeEnd(ended));
  await write(stdout, `${isDryRun ? 'dry run: ' : ''}${describeCounts(summary)}\n`);
  if (ended.kind === 'failed') return exitCodeFor(ended.cause);
  return ended.kind === 'complete' && summary.bad === 0 ? 0 : EXIT_FAILURE;
}

function describeBadLines({ bad, badLines }: ImportSummary): string {
  const lines = badLines.map(({ line, problem }) => `line ${line} ${problem}\n`);
  const restCount = bad - badLines.length;
  return lines.join('') + (restCount > 0 ? `and ${restCount} more bad lines\n` : '');
}

function describeEnd(ended: Exclude<ImportResult['ended'], { kind: 'complete' }>): string {
  const { line } = ended;
  if (ended.kind === 'broken') return `line ${line} ${ended.problem}; the lines before it are done`;
  const next = 'import again: sessions that are already there stay as they are';
  return `stopped at line ${line}: ${messageOf(ended.cause)}; ${next}`;
}

function describeCounts(summary: ImportSummary): string {
  return [
    `${summary.imported} imported`,
    `${summary.alreadyThere} already there`,
    `${summary.expired} expired`,
    `${summary.conflicts} owned by another Machine`,
    `${summary.bad} bad ${summary.bad === 1 ? 'line' : 'lines'}`,
  ].join(', ');
}

interface ProgressOptions {
  readonly terminal: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly clock: Clock;
  /** What is counted, in the plural. */
  readonly things: string;
}

interface Progress {
  readonly update: (count: number) => void;
  /** Removes the progress line. */
  readonly end: () => void;
}

const PROGRESS_INTERVAL_MS = 250;
/** Moves to the start of the line and erases it (ECMA-48, EL). */
const CLEAR_LINE = '\r\u001b[K';

/** Shows a count and its rate; nothing if the stream is not a terminal. */
export function startProgress({ terminal, clock, things }: ProgressOptions): Progress {
  if (terminal.isTTY !== true) return { update: () => undefined, end: () => undefined };
  const startedAt = clock.monotonicMs();
  let done = 0;
  const cancel = clock.every(PROGRESS_INTERVAL_MS, () => {
    const seconds = (clock.monotonicMs() - startedAt) / 1_000;
    const rate = Math.round(done / seconds).toLocaleString('en');
    terminal.write(`${CLEAR_LINE}${done.toLocaleString('en')} ${things}, ${rate} a second`);
  });
  return {
    update: (count) => {
      done = count;
    },
    end: () => {
      cancel();
      terminal.write(CLEAR_LINE);
    },
  };
}

interface SignalHandling {
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
async function replaceFile(
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
