/**
 * The writer thread as the main thread sees it: started, asked, started again once it died, stopped.
 *
 *     living ─ dies ─> dead ─ asked, a second after the last restart ─> starting ─ opened ─> living
 *                                                                        └ refused, died ─> dead
 *
 * What a thread had not answered when it died is sent to the next one. It may have been committed
 * already; doing it twice leaves what doing it once leaves (see `rules.ts`), and of each key it is
 * the only write under way. The caller hears what is true of the file: a binding as it is there.
 * Only what was removed, or expired on the spot, by the thread that died is then reported as not
 * there, for nobody knows any more who did it.
 *
 * Damage is believed only when a fresh connection confirms it: a thread that is being ended reads
 * nonsense from a sound file. So a thread that reports damage is closed, and the request goes to the
 * next one. What a thread reported that did not close in order counts for nothing.
 */
import { Worker } from 'node:worker_threads';
import type { Clock } from '../../clock.ts';
import { StaleFileError } from './errors.ts';
import { haveMoved } from './file.ts';
import type { OpenedFiles } from './file.ts';
import type {
  Refusal,
  RequestKind,
  RequestOf,
  WriterAnswers,
  WriterReply,
  WriterRequest,
  WriterSettings,
  WriterStart,
} from './protocol.ts';
import { StoreError } from '../store.ts';
import type { StoreLimits } from '../store.ts';

export type Answer<Kind extends RequestKind> = WriterAnswers[Kind] | 'busy' | 'dead';

export interface WriterThreadOptions {
  readonly path: string;
  readonly limits: StoreLimits;
  readonly clock: Clock;
  /** Once it aborts, a restart that waits for its time waits no longer. */
  readonly signal: AbortSignal;
  /** Told of each thread that ended by itself after it had opened the file. */
  readonly onDeath: (error: StoreError) => void;
}

/** A thread that dies again and again is started this often at most. */
const RESTART_PAUSE_MS = 1_000;
/** So a request that is the death of them is given up after some two seconds. */
const MAX_THREADS_PER_REQUEST = 3;

/** Of its young generation: it lives on small messages, and V8 would let it grow to 32 MB and more. */
const RESOURCE_LIMITS = { maxYoungGenerationSizeMb: 1 };

/** Plain node runs the sources too, so a loader of the main thread's is never needed there. */
const WRITER_URL = new URL(
  import.meta.url.endsWith('.ts') ? './writer.ts' : './writer.js',
  import.meta.url,
);

export class WriterThread {
  readonly #options: WriterThreadOptions;
  /** The one that is to be asked, alive or not. */
  #life: Life | undefined;
  /** The first one to be opened: the reader has it open too, so the writer can't go on with another. */
  #files: OpenedFiles | undefined;
  #restarting: Promise<Life> | undefined;
  #restartedAt = -Infinity;
  #isStopped = false;

  constructor(options: WriterThreadOptions) {
    this.#options = options;
  }

  /** Resolves once the file is open; rejects with a {@link StoreError} that says why it is not. */
  async start(): Promise<OpenedFiles> {
    const begun = await this.#begin();
    if (this.#files === undefined) throw diedOf((await begun.ended).cause);
    return this.#files;
  }

  /**
   * `busy`: another process holds the lock; `dead`: so many threads died of it, or of something else
   * meanwhile, that it is given up. Rejects with a {@link StoreError} for what failed otherwise.
   */
  async ask<Kind extends RequestKind>(request: RequestOf<Kind>): Promise<Answer<Kind>> {
    let report: StoreError | undefined;
    for (let count = 0; count < MAX_THREADS_PER_REQUEST; count += 1) {
      const asked = await this.#living().catch((error: unknown) => {
        throw report && isUnusable(error) ? report : error;
      });
      const reply = await asked.post(request);
      if (reply === 'died') continue;
      // The thread answers each request with the answer of its kind.
      if (!reportsDamage(reply)) return answerOf(reply) as WriterAnswers[Kind] | 'busy';
      if (this.#haveFilesMoved()) throw errorOf(reply);
      void asked.post({ kind: 'close' });
      if (!(await endsInOrder(asked))) continue;
      if (report) throw report;
      report = errorOf(reply);
    }
    return 'dead';
  }

  /** Closes the file and waits until the thread has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#restarting?.catch(() => undefined);
    // A thread that dies instead has ended all the same.
    await this.#life?.post({ kind: 'close' });
    await this.#life?.ended;
  }

  #haveFilesMoved(): boolean {
    return this.#files !== undefined && haveMoved(this.#options.path, this.#files);
  }

  async #living(): Promise<Life> {
    if (this.#life && !this.#life.hasEnded()) return this.#life;
    this.#restarting ??= this.#restart().finally(() => (this.#restarting = undefined));
    return this.#restarting;
  }

  async #restart(): Promise<Life> {
    const { clock, signal } = this.#options;
    const pauseMs = this.#restartedAt + RESTART_PAUSE_MS - clock.monotonicMs();
    if (pauseMs > 0) await clock.sleep(pauseMs, signal);
    if (this.#isStopped) throw new StoreError('closed', 'the session store is closed');
    this.#restartedAt = clock.monotonicMs();
    return this.#begin();
  }

  /** What the thread found damaged as it opened it, the next one has to find damaged, too. */
  async #begin(): Promise<Life> {
    const begun = await this.#tryToBegin();
    if (!(begun instanceof StoreError)) return begun;
    const again = begun.code === 'damaged' ? await this.#tryToBegin() : begun;
    if (again instanceof StoreError) throw again;
    return again;
  }

  async #tryToBegin(): Promise<Life | StoreError> {
    const { path, limits, onDeath } = this.#options;
    const begun = beginLife({ path, database: this.#files?.database, limits });
    const started = await begun.started;
    // Whoever asks it is told so.
    if (started === 'died') return begun;
    if (started.kind !== 'opened') return (await endsInOrder(begun)) ? errorOf(started) : begun;
    this.#files = started.files;
    this.#life = begun;
    void begun.ended.then(({ isInOrder, cause }) => {
      if (!this.#isStopped && !isInOrder) onDeath(diedOf(cause));
    });
    return begun;
  }
}

/** One thread from its start to its end. */
interface Life {
  readonly started: Promise<WriterStart | 'died'>;
  post(request: WriterRequest): Promise<WriterReply | 'died'>;
  hasEnded(): boolean;
  /** Resolves once it is gone. */
  readonly ended: Promise<Ending>;
}

interface Ending {
  /** It ended by itself, all its work done. */
  readonly isInOrder: boolean;
  /** The error it died of, if any. */
  readonly cause: unknown;
}

async function endsInOrder({ ended }: Life): Promise<boolean> {
  return (await ended).isInOrder;
}

type Message = WriterStart | WriterReply;

function beginLife(settings: WriterSettings): Life {
  // Neither environment nor flags: the thread reads no settings, and a loader would delay its start.
  const worker = new Worker(WRITER_URL, {
    workerData: settings,
    env: {},
    execArgv: [],
    resourceLimits: RESOURCE_LIMITS,
  });
  const waiting: ((message: Message | 'died') => void)[] = [];
  let cause: unknown;
  let hasEnded = false;
  const nextMessage = (): Promise<Message | 'died'> =>
    new Promise((resolve) => waiting.push(resolve));

  worker.on('message', (message: Message) => waiting.shift()?.(message));
  worker.on('error', (error: unknown) => {
    cause = error;
  });
  const ended = new Promise<Ending>((resolve) => {
    worker.once('exit', (exitCode: number) => {
      hasEnded = true;
      for (const hear of waiting.splice(0)) hear('died');
      resolve({ isInOrder: exitCode === 0, cause });
    });
  });

  return {
    // The thread says one thing at its start, and then one for each request.
    started: nextMessage() as Promise<WriterStart | 'died'>,
    post: (request) => {
      // What is posted to a thread that is gone is lost without a word.
      if (hasEnded) return Promise.resolve('died');
      worker.postMessage(request);
      return nextMessage() as Promise<WriterReply | 'died'>;
    },
    hasEnded: () => hasEnded,
    ended,
  };
}

function answerOf(reply: WriterReply): WriterAnswers[RequestKind] | 'busy' {
  if (reply.kind === 'answer') return reply.answer;
  if (reply.kind === 'busy') return 'busy';
  throw errorOf(reply);
}

function isUnusable(error: unknown): boolean {
  return error instanceof StoreError && (error.code === 'damaged' || error.code === 'fatal');
}

function reportsDamage(reply: WriterReply): reply is Refusal {
  if (reply.kind === 'stale') return true;
  return reply.kind === 'failed' && reply.failure.code === 'damaged';
}

function errorOf(refusal: Refusal): StoreError {
  switch (refusal.kind) {
    case 'busy':
      return new StoreError('passing', 'another process holds its lock');
    case 'stale':
      return new StaleFileError(refusal.message);
    case 'failed':
      return new StoreError(refusal.failure.code, refusal.failure.message);
  }
}

function diedOf(cause: unknown): StoreError {
  return new StoreError('passing', 'the writer thread of the session store died', { cause });
}
