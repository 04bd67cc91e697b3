/** Imports documents of sessions as they arrive: merges the sessions in bounded batches. */
import type { Binding, SessionKey, MachineId } from '../session.ts';
import { DocumentReader, type DocumentItem } from './document.ts';
import type { Clock } from '../clock.ts';
import { retry } from '../resilience.ts';
import { EVICTION_ORDER, StoreError, type SessionStore } from '../store/store.ts';

/** Merges sessions with no key twice; rejects if the store fails. */
type Merge = (bindings: readonly Binding[]) => Promise<MergeCounts>;

interface BadLine {
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

interface StallOptions {
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

/** `alreadyThere`: the same, or a newer state of it. `conflicts`: another Machine owns it. */
type MergeOutcome = 'imported' | 'alreadyThere' | 'expired' | 'conflicts';
export type MergeCounts = Readonly<Record<MergeOutcome, number>>;

interface MergeParts {
  readonly store: Pick<SessionStore, 'lookup' | 'upsert'>;
  readonly clock: Clock;
  readonly random: () => number;
  /** Reports what would be done, and does nothing. */
  readonly isDryRun: boolean;
  readonly onSessionChanged?: OnSessionChanged | undefined;
  /** After it aborts, nothing is retried. */
  readonly signal?: AbortSignal;
}

/**
 * An operator has changed the owner of a session. `from`: undefined if the store could not tell; `to`:
 * undefined if the session was deleted.
 */
export type OnSessionChanged = (
  key: SessionKey,
  from: MachineId | undefined,
  to: MachineId | undefined,
) => void;

export const NOTHING_MERGED: MergeCounts = {
  imported: 0,
  alreadyThere: 0,
  expired: 0,
  conflicts: 0,
};

/** A database that restarts or fails over is back after some seconds. */
export const MERGE_RETRIES = { retryCount: 8, delayMs: 200, maxDelayMs: 5_000 } as const;
/**
 * Two expiries closer than this are the same: a shared database has a clock of its own, and what it
 * returns is off by the round trip.
 */
const SAME_EXPIRY_MS = 1_000;

/**
 * Merges sessions into a store, without taking anything from those that are there: a binding of a
 * higher generation stays, whatever its owner; so does one of the same generation, with another owner
 * as it is, with the same owner until the later of the two expiries. Merging twice changes nothing.
 * Merges all of them at once, so no key may be there twice. Rejects with a {@link StoreError} if one
 * of them fails after some retries; the others are done by then.
 */
export async function mergeSessions(
  bindings: readonly Binding[],
  parts: MergeParts,
): Promise<MergeCounts> {
  const retries = { ...MERGE_RETRIES, isRetryable: isPassing, ...parts };
  const results = await Promise.allSettled(
    bindings.map((binding) => retry(() => merge(binding, parts), retries)),
  );
  const counts = { ...NOTHING_MERGED };
  for (const result of results) {
    if (result.status === 'rejected') throw result.reason;
    counts[result.value] += 1;
  }
  return counts;
}

export function isPassing(error: unknown): boolean {
  return error instanceof StoreError && error.code === 'passing';
}

function addCounts(one: MergeCounts, other: MergeCounts): MergeCounts {
  return {
    imported: one.imported + other.imported,
    alreadyThere: one.alreadyThere + other.alreadyThere,
    expired: one.expired + other.expired,
    conflicts: one.conflicts + other.conflicts,
  };
}

async function merge(exported: Binding, parts: MergeParts): Promise<MergeOutcome> {
  const { store, clock, isDryRun, onSessionChanged } = parts;
  if (exported.expiresAt <= clock.now()) return 'expired';
  const result = await store.lookup(exported.key);
  if (result === 'unknown') {
    throw new StoreError('passing', 'the session store is not available');
  }
  const found = result === 'absent' ? undefined : result;
  const outcome = outcomeOf(exported, found);
  if (outcome !== 'imported' || isDryRun) return outcome;
  // The later expiry also stays when the session moves to another Machine.
  const expiresAt = Math.max(exported.expiresAt, found?.expiresAt ?? 0);
  const after = await store.upsert({ ...exported, ttlMs: Math.max(expiresAt - clock.now(), 1) });
  if (after.machine !== exported.machine) return 'conflicts';
  const isMoved = found !== undefined && found.machine !== after.machine;
  if (isMoved) onSessionChanged?.(exported.key, found.machine, after.machine);
  return after.generation === exported.generation ? 'imported' : 'alreadyThere';
}

function outcomeOf(exported: Binding, found: Binding | undefined): MergeOutcome {
  if (found === undefined || found.generation < exported.generation) return 'imported';
  if (found.machine !== exported.machine) return 'conflicts';
  if (found.generation > exported.generation) return 'alreadyThere';
  const isLater = exported.expiresAt - found.expiresAt >= SAME_EXPIRY_MS;
  return isLater || isStronger(exported, found) ? 'imported' : 'alreadyThere';
}

/** An owner's own binding has more information than the copy that it sent to a peer. */
function isStronger(exported: Binding, found: Binding): boolean {
  return EVICTION_ORDER.indexOf(exported.origin) > EVICTION_ORDER.indexOf(found.origin);
}
