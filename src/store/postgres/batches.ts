/**
 * Schedules and batches the queries to Postgres:
 *
 *     asked ─ writes of its key in flight? ─ yes ─> waits for them (a write waits for lookups, too)
 *             └ no ─> ready ─ a connection is free ─> one statement with all ready ones of its kind
 *
 * So a single query runs at once, and queries that arrive while all connections are busy share a
 * statement. Queries of one key run in the order of their calls, though there are several
 * connections.
 */
import type { Clock } from '../../clock.ts';
import type { SessionKey } from '../../session.ts';
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
  /** Resolves once all earlier queries have finished. */
  idle(): Promise<void>;
}

export interface BatchesOptions {
  readonly clock: Clock;
  /** Performs queries of one kind, no two writes of one key among them. */
  readonly perform: (
    questions: readonly [Question, ...Question[]],
    limitMs: number,
  ) => Promise<readonly PostgresRow[]>;
}

const MAX_BATCH = 100;
/** One second of traffic of a busy sidecar; more are rejected at once. */
const MAX_WAITING = 5_000;
const LOOKUP_LIMIT_MS = 500;
const WRITE_LIMIT_MS = 1_000;

interface Job {
  readonly question: Question;
  /** The time limit has passed, and the caller has its error. */
  isOver: boolean;
  readonly resolve: (row: PostgresRow | undefined) => void;
  readonly reject: (error: unknown) => void;
  /** Call it once the query can have no effect any more. */
  readonly leave: () => void;
}

export function createPostgresBatches({ clock, perform }: BatchesOptions): PostgresBatches {
  const turns = createTurns();
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
  const start = (job: Job): void => {
    ready.push(job);
    pump();
  };
  const ask = (question: Question): Promise<PostgresRow | undefined> => {
    if (waitingCount >= MAX_WAITING) {
      const message = `the session store is behind by ${MAX_WAITING} operations`;
      return Promise.reject(new StoreError('passing', message));
    }
    waitingCount += 1;
    const turn = turns.enter(question.key, question.kind === 'lookup');
    const leave = (): void => {
      waitingCount -= 1;
      turn.leave();
    };
    const { job, row } = createJob(question, leave, clock);
    if (turn.before === undefined) start(job);
    else void turn.before.then(() => start(job));
    return row;
  };

  return { ask, idle: () => turns.idle() };
}

function createJob(
  question: Question,
  leave: () => void,
  clock: Clock,
): { job: Job; row: Promise<PostgresRow | undefined> } {
  const limitMs = limitOf(question);
  const { promise, resolve, reject } = Promise.withResolvers<PostgresRow | undefined>();
  const job = { question, isOver: false, resolve, reject, leave };
  const cancel = startTimeLimit(clock, limitMs, () => {
    job.isOver = true;
    reject(new StoreError('passing', `Postgres has not responded within ${limitMs} ms`));
  });
  return { job, row: promise.finally(cancel) };
}

function limitOf({ kind }: Question): number {
  return kind === 'lookup' ? LOOKUP_LIMIT_MS : WRITE_LIMIT_MS;
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
    for (const { question, resolve } of batch) resolve(byKey.get(question.key));
  } catch (error) {
    for (const { reject } of batch) reject(error);
  } finally {
    for (const { leave } of batch) leave();
  }
}

interface Turn {
  readonly isRead: boolean;
  readonly before: Promise<unknown> | undefined;
  readonly done: Promise<unknown>;
}

/** Queries of one key run in the order of entering: a write alone, reads together. */
function createTurns() {
  const latest = new Map<SessionKey, Turn>();
  return {
    enter: (key: SessionKey, isRead: boolean) => {
      const previous = latest.get(key);
      const { promise, resolve } = Promise.withResolvers<undefined>();
      const isTogether = isRead && previous?.isRead === true;
      const turn: Turn = {
        isRead,
        before: isTogether ? previous.before : previous?.done,
        done: isTogether ? Promise.all([previous.done, promise]) : promise,
      };
      latest.set(key, turn);
      void turn.done.then(() => {
        if (latest.get(key) === turn) latest.delete(key);
      });
      return { before: turn.before, leave: () => resolve(undefined) };
    },
    idle: async () => {
      await Promise.all([...latest.values()].map(({ done }) => done));
    },
  };
}
