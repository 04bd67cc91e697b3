/**
 * Group commit without a timer: the first request goes to the writer at once, and the writes that
 * arrive while it is in flight share the next one. Requests keep the order of their calls.
 *
 * A batch has at most one write of each key. So at most one write of a key can be committed but not
 * yet acknowledged, and applying that one again changes nothing (see `rules.ts`): that makes reads
 * exact which apply the pending writes to the content of the file.
 *
 * Once the writer has been unavailable for as long as one request is tried, all requests that
 * waited meanwhile fail with it: so no request waits much longer than that, however long the queue
 * is.
 */
import type { SessionKey } from '../../session.ts';
import { createPendingWrites, type PendingWrites } from '../in-flight.ts';
import type { Outcome, Write } from '../rules.ts';
import { toSqliteStoreError } from './errors.ts';
import type { RequestKind, RequestOf, WriteResult, WriterResponses } from './protocol.ts';
import type { WriterResult } from './thread.ts';
import { StoreError } from '../store.ts';

const MAX_BATCH = 500;
/** Some seconds of a locked database under full load; more are rejected at once. */
const MAX_QUEUED = 50_000;

/** Sends one request to the writer; rejects with a {@link StoreError}. */
export type Ask = <Kind extends RequestKind>(
  request: RequestOf<Kind>,
) => Promise<WriterResult<Kind>>;

export interface WriteQueue {
  write(write: Write): Promise<Outcome>;
  /** Any request but a write: performed alone, after all earlier calls. */
  ask<Kind extends Exclude<RequestKind, 'write'>>(
    request: RequestOf<Kind>,
  ): Promise<WriterResponses[Kind]>;
  /** The writes called but not finished. */
  readonly pending: Pick<PendingWrites, 'of'>;
  /** Rejects later calls, and waits until all earlier ones have finished. */
  close(): Promise<void>;
}

interface WriteQueueOptions {
  readonly ask: Ask;
  /**
   * Waits before another attempt at a busy database, the first pause having the number 0; false: no
   * more.
   */
  readonly waitToRetry: (pause: number) => Promise<boolean>;
  /**
   * Called at the moment from which the write no longer counts as pending; undefined: it failed.
   */
  readonly onSettled: (write: Write, outcome: Outcome | undefined) => void;
  /** Bindings that were evicted. */
  readonly onEvicted: (keys: readonly SessionKey[]) => void;
}

/**
 * A defect: the writer reports on every write of a batch. Without a report the write counts as
 * failed.
 */
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

/** The writer was unavailable, so another request to it would fail too. */
class WriterAwayError extends StoreError {}

export function createWriteQueue(options: WriteQueueOptions): WriteQueue {
  const pending = createPendingWrites();
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
    // An exception of `add` rejects the promise.
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

/** The next job: a request that is not a write, or as many writes as may share a batch. */
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

/** Rejects if the whole batch has failed; then no write has finished yet. */
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
): Promise<WriterResponses[Kind]> {
  for (let pause = 0; ; pause += 1) {
    const result = await ask(request);
    if (result === 'dead') {
      throw new WriterAwayError('passing', 'the writer thread of the session store keeps dying');
    }
    if (result !== 'busy') return result;
    if (!(await waitToRetry(pause))) {
      throw new WriterAwayError('passing', 'another process holds the lock of the session store');
    }
  }
}
