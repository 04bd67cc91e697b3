/** Imports documents of sessions as they arrive: merges the sessions in bounded batches. */
import type { Binding, SessionKey } from '../session.ts';
import { DocumentReader, type DocumentItem } from './document.ts';
import { addCounts, NOTHING_MERGED, type MergeCounts } from './merge.ts';
import type { Clock } from '../clock.ts';

/** Merges sessions with no key twice; rejects if the store fails. */
export type Merge = (bindings: readonly Binding[]) => Promise<MergeCounts>;

export interface BadLine {
  readonly line: number;
  readonly problem: string;
}

export interface ImportSummary extends MergeCounts {
  readonly bad: number;
  /** The first {@link MAX_NAMED_BAD_LINES} of them. */
  readonly badLines: readonly BadLine[];
}

export interface ImportResult {
  readonly summary: ImportSummary;
  /** Why the import ended; every line before `line` has been processed. */
  readonly ended:
    | { readonly kind: 'complete' }
    | { readonly kind: 'broken'; readonly line: number; readonly problem: string }
    /** The store or the source failed. */
    | { readonly kind: 'failed'; readonly line: number; readonly cause: unknown };
}

export interface ImportParts {
  readonly merge: Merge;
  /** Sessions merged at once. */
  readonly batchSize: number;
  /** Called with the number of sessions and bad lines processed so far. */
  readonly onProgress?: (count: number) => void;
}

export const MAX_NAMED_BAD_LINES = 100;

/** Never rejects. */
export async function importSessions(
  chunks: AsyncIterable<Buffer>,
  parts: ImportParts,
): Promise<ImportResult> {
  const running = new RunningImport(parts);
  try {
    return running.result(await readInto(running, chunks));
  } catch (cause) {
    return running.result({ kind: 'failed', line: running.nextLine, cause });
  }
}

type Ended = ImportResult['ended'];

async function readInto(running: RunningImport, chunks: AsyncIterable<Buffer>): Promise<Ended> {
  const reader = new DocumentReader();
  for await (const chunk of chunks) {
    const broken = await running.take(reader.push(chunk));
    if (broken) return broken;
  }
  const broken = await running.take(reader.end());
  if (broken) return broken;
  await running.mergeBatch();
  return { kind: 'complete' };
}

class RunningImport {
  readonly #parts: ImportParts;
  /** No key twice: the writes of one batch have no order. */
  readonly #batch = new Map<SessionKey, Binding>();
  readonly #badLines: BadLine[] = [];
  #badCount = 0;
  #counts = NOTHING_MERGED;
  #doneCount = 0;
  #lastLine = 0;
  /** The first line that may not have been processed. */
  nextLine = 1;

  constructor(parts: ImportParts) {
    this.#parts = parts;
  }

  /** Returns the item that ends the import. */
  async take(
    items: readonly DocumentItem[],
  ): Promise<(DocumentItem & { kind: 'broken' }) | undefined> {
    for (const item of items) {
      if (item.kind === 'broken') {
        await this.mergeBatch();
        return item;
      }
      if (item.kind === 'session') await this.#add(item.binding);
      else this.#note(item);
      this.#lastLine = item.line;
    }
    return undefined;
  }

  async mergeBatch(): Promise<void> {
    const bindings = [...this.#batch.values()];
    if (bindings.length > 0)
      this.#counts = addCounts(this.#counts, await this.#parts.merge(bindings));
    this.#batch.clear();
    this.nextLine = this.#lastLine + 1;
    this.#progress(bindings.length);
  }

  result(ended: Ended): ImportResult {
    const summary = { ...this.#counts, bad: this.#badCount, badLines: this.#badLines };
    return { summary, ended };
  }

  async #add(binding: Binding): Promise<void> {
    const isFull = this.#batch.size >= this.#parts.batchSize;
    if (isFull || this.#batch.has(binding.key)) await this.mergeBatch();
    this.#batch.set(binding.key, binding);
  }

  #note({ line, problem }: BadLine): void {
    if (this.#badLines.length < MAX_NAMED_BAD_LINES) this.#badLines.push({ line, problem });
    this.#badCount += 1;
    this.#progress(1);
  }

  #progress(count: number): void {
    this.#doneCount += count;
    this.#parts.onProgress?.(this.#doneCount);
  }
}

/* Timeouts for streams whose other side stalls. */

export interface StallOptions {
  readonly clock: Clock;
  /** The longest wait for the next chunk, or for the reader to take one. */
  readonly timeoutMs: number;
  /** Called after the timeout: ends the stream that is waited for. */
  readonly onStall: () => void;
}

/** Passes chunks on; times out when the source sends none. */
export async function* withReadTimeout<Chunk>(
  chunks: AsyncIterable<Chunk>,
  { clock, timeoutMs, onStall }: StallOptions,
): AsyncGenerator<Chunk> {
  let cancel = clock.after(timeoutMs, onStall);
  try {
    for await (const chunk of chunks) {
      cancel();
      yield chunk;
      cancel = clock.after(timeoutMs, onStall);
    }
  } finally {
    cancel();
  }
}

/** Passes chunks on; times out when the reader does not take one. */
export async function* withWriteTimeout<Chunk>(
  chunks: AsyncIterable<Chunk>,
  { clock, timeoutMs, onStall }: StallOptions,
): AsyncGenerator<Chunk> {
  for await (const chunk of chunks) {
    const cancel = clock.after(timeoutMs, onStall);
    try {
      yield chunk;
    } finally {
      cancel();
    }
  }
}
