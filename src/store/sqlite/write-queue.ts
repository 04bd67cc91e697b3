/**
 * Group commit without a timer: the first request goes to the writer at once, and the writes that
 * arrive while it is under way go together in the next one. Requests keep the order of their calls.
 *
 * A batch has at most one write of each key. So of each key at most one write can be committed
 * without our having heard of it, and applying that one again changes nothing (see `rules.ts`):
 * that makes reads exact which apply the pending writes to what is in the file.
 *
 * Once the writer could not be had for as long as one request is tried, all that waited meanwhile
 * fail with it: so nothing waits much longer than that, however long the queue is.
 */
import type { Binding, SessionKey } from '../../session.ts';
import { applyWrites, type Outcome, type Write } from '../rules.ts';
import { toSqliteStoreError } from './errors.ts';
import type { RequestKind, RequestOf, WriteResult, WriterAnswers } from './protocol.ts';
import type { Answer } from './thread.ts';
import { StoreError } from '../store.ts';

const MAX_BATCH = 500;
/** Some seconds of a locked database under full load; what comes then is refused at once. */
const MAX_QUEUED = 50_000;

/** Sends one request to the writer; rejects with a {@link StoreError}. */
export type Ask = <Kind extends RequestKind>(request: RequestOf<Kind>) => Promise<Answer<Kind>>;

export interface WriteQueue {
  write(write: Write): Promise<Outcome>;
  /** Whatever is no write: performed alone, after all that was called before. */
  ask<Kind extends Exclude<RequestKind, 'write'>>(
    request: RequestOf<Kind>,
  ): Promise<WriterAnswers[Kind]>;
  /** The writes called and not yet settled. */
  readonly pending: Pick<PendingWrites, 'has' | 'apply'>;
  /** Refuses what comes later, and waits until all that came before is settled. */
  close(): Promise<void>;
}

export interface WriteQueueOptions {
  readonly ask: Ask;
  /** Waits before another attempt at a busy database, the first pause having the number 0; false: no more. */
  readonly waitToRetry: (pause: number) => Promise<boolean>;
  /** Called at the very moment from which the write no longer counts as pending; undefined: it failed. */
  readonly onSettled: (write: Write, outcome: Outcome | undefined) => void;
  /** Bindings that made room for others. */
  readonly onEvicted: (keys: readonly SessionKey[]) => void;
  readonly maxAgeMs: number;
}

/** Can't be: the writer answers for every write of a batch. But then nothing is known to be written. */
const NO_RESULT: WriteResult = {
  kind: 'failed',
  failure: { code: 'fatal', message: 'the writer of the session store left a write out' },
};

interface WriteJob {
  readonly kind: 'write';
  readonly write: Write;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: StoreError) => void;
}
interface OtherJob {
  readonly kind: 'other';
  /** Never rejects. */
  readonly perform: () => Promise<void>;
  readonly reject: (error: StoreError) => void;
}
type Job = WriteJob | OtherJob;

/** The writer could not be had, so there is no use in asking it for something else. */
class WriterAwayError extends StoreError {}

export function createWriteQueue(options: WriteQueueOptions): WriteQueue {
  const pending = createPendingWrites(options.maxAgeMs);
  const jobs: Job[] = [];
  let running: Promise<void> | undefined;
  let isClosed = false;

  const fail = (job: Job, error: StoreError): void => {
    if (job.kind === 'write') {
      pending.settle(job.write);
      options.onSettled(job.write, undefined);
    }
    job.reject(error);
  };
  const run = async (): Promise<void> => {
    for (let batch = takeBatch(jobs); batch !== undefined; batch = takeBatch(jobs)) {
      try {
        await (Array.isArray(batch) ? performBatch(batch, pending, options) : batch.perform());
      } catch (error) {
        const failure = toSqliteStoreError('store write', error);
        const isAway = failure instanceof WriterAwayError;
        for (const job of [batch, isAway ? jobs.splice(0) : []].flat()) fail(job, failure);
      }
    }
    running = undefined;
  };
  const add = (job: Job): void => {
    if (isClosed) throw new StoreError('closed', 'the session store is closed');
    if (jobs.length >= MAX_QUEUED) {
      throw new StoreError('passing', `the session store is behind by ${MAX_QUEUED} writes`);
    }
    jobs.push(job);
    if (job.kind === 'write') pending.add(job.write);
    running ??= run();
  };

  return {
    pending,
    // What `add` throws rejects the promise.
    write: (write) =>
      new Promise((resolve, reject) => {
        add({ kind: 'write', write, resolve, reject });
      }),
    ask: (request) =>
      new Promise((resolve, reject) => {
        const perform = async (): Promise<void> => resolve(await askPatiently(request, options));
        add({ kind: 'other', perform, reject });
      }),
    close: async () => {
      isClosed = true;
      await running;
    },
  };
}

/** The next thing to do: something that is no write, or as many writes as may go together. */
function takeBatch(jobs: Job[]): WriteJob[] | OtherJob | undefined {
  const batch: WriteJob[] = [];
  const keys = new Set<SessionKey>();
  for (const job of jobs) {
    const isLast = job.kind === 'other' || keys.has(job.write.key) || batch.length === MAX_BATCH;
    if (isLast) break;
    batch.push(job);
    keys.add(job.write.key);
  }
  if (batch.length > 0) {
    jobs.splice(0, batch.length);
    return batch;
  }
  const job = jobs.shift();
  return job?.kind === 'other' ? job : undefined;
}

/** Rejects where the whole batch has failed; then nothing is settled yet. */
async function performBatch(
  batch: readonly WriteJob[],
  pending: PendingWrites,
  options: WriteQueueOptions,
): Promise<void> {
  const writes = batch.map((job) => job.write);
  const { results, evicted } = await askPatiently({ kind: 'write', writes }, options);
  for (const [index, { write, resolve, reject }] of batch.entries()) {
    const result = results[index] ?? NO_RESULT;
    pending.settle(write);
    if (result.kind === 'done') {
      options.onSettled(write, result.outcome);
      resolve(result.outcome);
    } else {
      options.onSettled(write, undefined);
      reject(new StoreError(result.failure.code, result.failure.message));
    }
  }
  options.onEvicted(evicted);
}

async function askPatiently<Kind extends RequestKind>(
  request: RequestOf<Kind>,
  { ask, waitToRetry }: WriteQueueOptions,
): Promise<WriterAnswers[Kind]> {
  for (let pause = 0; ; pause += 1) {
    const answer = await ask(request);
    if (answer === 'dead') {
      throw new WriterAwayError('passing', 'the writer thread of the session store keeps dying');
    }
    if (answer !== 'busy') return answer;
    if (!(await waitToRetry(pause))) {
      throw new WriterAwayError('passing', 'another process holds the lock of the session store');
    }
  }
}

export interface PendingWrites {
  has(key: SessionKey): boolean;
  add(write: Write): void;
  /** The oldest one of its key is written, or has failed. */
  settle(write: Write): void;
  /** What will be bound once they are written, if `found` is what is in the file. */
  apply(key: SessionKey, found: Binding | undefined): Binding | undefined;
}

export function createPendingWrites(maxAgeMs: number): PendingWrites {
  const byKey = new Map<SessionKey, Write[]>();
  return {
    has: (key) => byKey.has(key),
    add: (write) => {
      const writes = byKey.get(write.key);
      if (writes) writes.push(write);
      else byKey.set(write.key, [write]);
    },
    settle: ({ key }) => {
      const writes = byKey.get(key);
      if (writes && writes.length > 1) writes.shift();
      else byKey.delete(key);
    },
    apply: (key, found) => applyWrites(byKey.get(key) ?? [], found, maxAgeMs),
  };
}
