/**
 * Batches the queries to Postgres:
 *
 *     asked ─ its turn, by `in-flight.ts` ─> ready ─ a connection is free ─> one statement with all
 *                                                                           ready ones of its kind
 *
 * So a single query runs at once, and queries that arrive while all connections are busy share a
 * statement.
 */
import type { Clock } from '../../clock.ts';
import type { WritesInFlight } from '../in-flight.ts';
import { READ_LIMIT_MS, WRITE_LIMIT_MS } from '../remote-store.ts';
import { startTimeLimit } from '../time-limit.ts';
import { MAX_CONNECTIONS } from './pool.ts';
import type { PostgresRow } from './pool.ts';
import type { Question } from './statements.ts';
import { StoreError } from '../store.ts';

export interface PostgresBatches {
  /**
   * The row of the result, if there is one. Rejects with what `perform` throws, or at the time
   * limit.
   */
  ask(question: Question): Promise<PostgresRow | undefined>;
}

interface BatchesOptions {
  readonly clock: Clock;
  /** A query is in flight until it can have no effect any more. */
  readonly inFlight: Pick<WritesInFlight<undefined>, 'run' | 'read'>;
  /** Performs queries of one kind, no two writes of one key among them. */
  readonly perform: (
    questions: readonly [Question, ...Question[]],
    limitMs: number,
  ) => Promise<readonly PostgresRow[]>;
}

const MAX_BATCH = 100;
/** One second of traffic of a busy sidecar; more are rejected at once. */
const MAX_WAITING = 5_000;

interface Job {
  readonly question: Question;
  /** The time limit has passed, and the caller has its error. */
  isOver: boolean;
  readonly resolve: (row: PostgresRow | undefined) => void;
  readonly reject: (error: unknown) => void;
  /** Call it once the query can have no effect any more. */
  readonly leave: () => void;
  /** Resolves then. */
  readonly ended: Promise<undefined>;
}

export function createPostgresBatches({
  clock,
  inFlight,
  perform,
}: BatchesOptions): PostgresBatches {
  const ready: Job[] = [];
  let waitingCount = 0;
  let busyCount = 0;

  const pump = (): void => {
    while (busyCount < MAX_CONNECTIONS && ready.length > 0) {
      busyCount += 1;
      void performAll(takeBatch(ready), perform).then(() => {
        busyCount -= 1;
        pump();
      });
    }
  };
  const start = (job: Job): Promise<undefined> => {
    ready.push(job);
    pump();
    return job.ended;
  };
  const ask = (question: Question): Promise<PostgresRow | undefined> => {
    if (waitingCount >= MAX_WAITING) {
      const message = `the session store is behind by ${MAX_WAITING} operations`;
      return Promise.reject(new StoreError('passing', message));
    }
    waitingCount += 1;
    const { promise: ended, resolve: resolveEnded } = Promise.withResolvers<undefined>();
    const leave = (): void => {
      waitingCount -= 1;
      resolveEnded(undefined);
    };
    const { job, row } = createJob(question, { ended, leave }, clock);
    if (question.kind === 'lookup') void inFlight.read(question.key, () => start(job));
    else void inFlight.run(question, () => start(job));
    return row;
  };

  return { ask };
}

function createJob(
  question: Question,
  end: Pick<Job, 'ended' | 'leave'>,
  clock: Clock,
): { job: Job; row: Promise<PostgresRow | undefined> } {
  const limitMs = limitOf(question);
  const { promise, resolve, reject } = Promise.withResolvers<PostgresRow | undefined>();
  const job = { question, isOver: false, resolve, reject, ...end };
  const cancel = startTimeLimit(clock, limitMs, () => {
    job.isOver = true;
    reject(new StoreError('passing', `Postgres has not responded within ${limitMs} ms`));
  });
  return { job, row: promise.finally(cancel) };
}

function limitOf({ kind }: Question): number {
  return kind === 'lookup' ? READ_LIMIT_MS : WRITE_LIMIT_MS;
}

/** Takes the ready queries of the same kind as the first. */
function takeBatch(ready: Job[]): Job[] {
  const batch: Job[] = [];
  const rest: Job[] = [];
  for (const job of ready.splice(0)) {
    const isFitting =
      batch.length < MAX_BATCH && (batch[0] ?? job).question.kind === job.question.kind;
    if (job.isOver) job.leave();
    else if (isFitting) batch.push(job);
    else rest.push(job);
  }
  ready.push(...rest);
  return batch;
}

/** Never rejects. */
async function performAll(
  batch: readonly Job[],
  perform: BatchesOptions['perform'],
): Promise<void> {
  const [first, ...others] = batch.map(({ question }) => question);
  // All of them have timed out.
  if (first === undefined) return;
  try {
    const rows = await perform([first, ...others], limitOf(first));
    const byKey = new Map(rows.map((row) => [row.key, row]));
    endAll(batch, ({ question, resolve }) => resolve(byKey.get(question.key)));
  } catch (error) {
    endAll(batch, ({ reject }) => reject(error));
  }
}

/** A caller that has its result finds its query no longer in flight. */
function endAll(batch: readonly Job[], settle: (job: Job) => void): void {
  for (const job of batch) {
    job.leave();
    settle(job);
  }
}
