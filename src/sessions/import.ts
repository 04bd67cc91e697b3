/** Reads documents of sessions as they come and merges what is in them, in bounded batches. */
import type { Binding, SessionKey } from '../session.ts';
import { createDocumentReader, type DocumentItem } from './document.ts';
import { addCounts, NOTHING_MERGED, type MergeCounts } from './merge.ts';

/** Merges sessions of which none comes twice; rejects if the store fails. */
export type Merge = (bindings: readonly Binding[]) => Promise<MergeCounts>;

export interface BadLine {
  readonly line: number;
  readonly problem: string;
}

export interface ImportSummary extends MergeCounts {
  readonly bad: number;
  /** The first of the bad lines. */
  readonly badLines: readonly BadLine[];
}

export interface ImportResult {
  readonly summary: ImportSummary;
  /** Why it ended; what stands before `line` has been dealt with. */
  readonly ended:
    | { readonly kind: 'complete' }
    | { readonly kind: 'broken'; readonly line: number; readonly problem: string }
    /** The store failed, or what the lines come from. */
    | { readonly kind: 'failed'; readonly line: number; readonly cause: unknown };
}

export interface ImportParts {
  readonly merge: Merge;
  /** Sessions merged at once. */
  readonly batchSize: number;
  /** Called as it goes on, with the number of sessions and bad lines dealt with. */
  readonly onProgress?: (count: number) => void;
}

/** Of the bad lines, so many are named. */
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
  const reader = createDocumentReader();
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
  /** No key twice: what is written at once has no order. */
  readonly #batch = new Map<SessionKey, Binding>();
  readonly #badLines: BadLine[] = [];
  #badCount = 0;
  #counts = NOTHING_MERGED;
  #doneCount = 0;
  #lastLine = 0;
  /** The first one that may not be dealt with. */
  nextLine = 1;

  constructor(parts: ImportParts) {
    this.#parts = parts;
  }

  /** Returns what ends the reading. */
  async take(
    findings: readonly DocumentItem[],
  ): Promise<(DocumentItem & { kind: 'broken' }) | undefined> {
    for (const finding of findings) {
      if (finding.kind === 'broken') {
        await this.mergeBatch();
        return finding;
      }
      if (finding.kind === 'session') await this.#add(finding.binding);
      else this.#note(finding);
      this.#lastLine = finding.line;
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
