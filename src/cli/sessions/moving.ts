/** `export` and `import`. */
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import type { Binding } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { formatDocument } from '../../sessions/document.ts';
import { importSessions, type ImportResult, type ImportSummary } from '../../sessions/import.ts';
import { StoreError } from '../../store/store.ts';
import { EXIT_FAILURE } from '../../app/exit-codes.ts';
import { replaceFile, type FileSurroundings } from './atomic-file.ts';
import { CommandFailed, exitCodeFor } from './failure.ts';
import type { SessionBackend } from './place.ts';
import { startProgress } from './progress.ts';
import { printMessage, write, type Streams } from './streams.ts';

export interface MovingParts extends Streams, FileSurroundings {
  readonly place: SessionBackend;
  readonly clock: Clock;
}

/** Resolves to the exit code. */
export async function exportSessions(
  file: string | undefined,
  parts: MovingParts,
): Promise<number> {
  const { place, stdout, stderr, clock } = parts;
  const progress = startProgress({ terminal: stderr, clock, things: 'sessions exported' });
  let count = 0;
  async function* counted(): AsyncGenerator<Binding> {
    for await (const binding of place.entries({})) {
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
  printMessage(parts, `${count} sessions exported`);
  return 0;
}

async function writeFile(
  file: string,
  chunks: AsyncIterable<string>,
  parts: MovingParts,
): Promise<void> {
  try {
    await replaceFile(file, chunks, parts);
  } catch (error) {
    if (error instanceof StoreError || error instanceof CommandFailed) throw error;
    throw CommandFailed.file(`can not write ${JSON.stringify(file)}: ${reasonOf(error)}`, error);
  }
}

/** Rejects if there is no such file, before anything else is opened. */
export async function openSource(file: string | undefined, stdin: Readable): Promise<Readable> {
  if (file === undefined) return stdin;
  try {
    return (await open(file)).createReadStream();
  } catch (error) {
    throw CommandFailed.file(`can not read ${JSON.stringify(file)}: ${reasonOf(error)}`, error);
  }
}

/** Resolves to the exit code. */
export async function importFrom(
  source: Readable,
  isDryRun: boolean,
  parts: MovingParts,
): Promise<number> {
  const { place, stdout, stderr, clock } = parts;
  const progress = startProgress({ terminal: stderr, clock, things: 'sessions read' });
  const result = await importSessions(source as AsyncIterable<Buffer>, {
    merge: (bindings) => place.merge(bindings, isDryRun),
    batchSize: place.mergedAtOnce,
    onProgress: progress.update,
  });
  progress.end();
  const { summary, ended } = result;
  stderr.write(describeBadLines(summary));
  if (ended.kind !== 'complete') printMessage(parts, describeEnd(ended));
  await write(stdout, `${isDryRun ? 'dry run: ' : ''}${describeCounts(summary)}\n`);
  if (ended.kind === 'failed') return exitCodeFor(ended.cause);
  return ended.kind === 'complete' && summary.bad === 0 ? 0 : EXIT_FAILURE;
}

function describeBadLines({ bad, badLines }: ImportSummary): string {
  const lines = badLines.map(({ line, problem }) => `line ${line} ${problem}\n`);
  const unnamed = bad - badLines.length;
  return lines.join('') + (unnamed > 0 ? `and ${unnamed} more bad lines\n` : '');
}

function describeEnd(ended: Exclude<ImportResult['ended'], { kind: 'complete' }>): string {
  const { line } = ended;
  if (ended.kind === 'broken') {
    return `line ${line} ${ended.problem}; what stands before it has been dealt with`;
  }
  const reason = reasonOf(ended.cause);
  return `stopped at line ${line}: ${reason}; import it again, what is there already stays as it is`;
}

function describeCounts({
  imported,
  alreadyThere,
  expired,
  conflicts,
  bad,
}: ImportSummary): string {
  return [
    `${imported} imported`,
    `${alreadyThere} already there`,
    `${expired} expired`,
    `${conflicts} owned by another Machine`,
    `${bad} bad lines`,
  ].join(', ');
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
