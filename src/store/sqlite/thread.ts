/**
 * The writer thread as the main thread sees it: starts it, sends requests, restarts it after it
 * dies, stops it.
 *
 *     living ─ dies ─> dead ─ request, a second after the last restart ─> starting ─ opened ─> living
 *                                                                           └ failed, died ─> dead
 *
 * A request without a response when the thread died is sent to the next thread. It may have been
 * committed already; doing it twice leaves what doing it once leaves (see `rules.ts`), and it is
 * the only write of its key in flight. The caller gets the state of the file: the binding that is
 * there. Only a binding that the dead thread removed, or expired at once, is reported as not there,
 * because nothing records who removed it.
 *
 * Damage counts only after a fresh connection has confirmed it: a thread that is being terminated
 * reads garbage from a sound file. So a thread that reports damage is closed, and the request goes
 * to the next one. A report of a thread that did not close in order is ignored.
 */
import { Worker } from 'node:worker_threads';
import type { Clock } from '../../clock.ts';
import { StaleFileError } from './errors.ts';
import { haveMoved } from './file.ts';
import type { OpenedFiles } from './file.ts';
import type {
  WriterError,
  RequestKind,
  RequestOf,
  WriterResponses,
  WriterMessage,
  WriterRequest,
  WriterSettings,
  WriterStart,
} from './protocol.ts';
import { StoreError } from '../store.ts';
import type { StoreLimits } from '../store.ts';

export type WriterResult<Kind extends RequestKind> = WriterResponses[Kind] | 'busy' | 'dead';

interface WriterThreadOptions {
  readonly path: string;
  readonly limits: StoreLimits;
  readonly clock: Clock;
  /** Once it aborts, a restart no longer waits for its pause. */
  readonly signal: AbortSignal;
  /** Called for each thread that ended by itself after it had opened the file. */
  readonly onDeath: (error: StoreError) => void;
}

/** The shortest time between two restarts. */
const RESTART_PAUSE_MS = 1_000;
/** So a request that kills threads fails after some two seconds. */
const MAX_THREADS_PER_REQUEST = 3;

/**
 * Of its young generation: it handles small messages, and V8 would let it grow to 32 MB and more.
 */
const RESOURCE_LIMITS = { maxYoungGenerationSizeMb: 1 };

/** Plain node runs the sources too, so the thread never needs a loader of the main thread. */
const WRITER_URL = new URL(
  import.meta.url.endsWith('.ts') ? './writer.ts' : './writer.js',
  import.meta.url,
);

export class WriterThread {
  readonly #options: WriterThreadOptions;
  /** The current thread, alive or not. */
  #life: Life | undefined;
  /**
   * The files that the first thread opened: the reader has them open too, so the writer can't use
   * others.
   */
  #files: OpenedFiles | undefined;
  #restarting: Promise<Life> | undefined;
  #restartedAt = -Infinity;
  #isStopped = false;

  constructor(options: WriterThreadOptions) {
    this.#options = options;
  }

  /**
   * Resolves once the file is open; rejects with a {@link StoreError} that says why it can't be
   * opened.
   */
  async start(): Promise<OpenedFiles> {
    const begun = await this.#begin();
    if (this.#files === undefined) throw diedOf((await begun.ended).cause);
    return this.#files;
  }

  /**
   * `busy`: another process holds the lock; `dead`: this many threads died during the request, so
   * it is not retried. Rejects with a {@link StoreError} for other failures.
   */
  async ask<Kind extends RequestKind>(request: RequestOf<Kind>): Promise<WriterResult<Kind>> {
    let report: StoreError | undefined;
    for (let count = 0; count < MAX_THREADS_PER_REQUEST; count += 1) {
      const asked = await this.#living().catch((error: unknown) => {
        throw report && isUnusable(error) ? report : error;
      });
      const reply = await asked.post(request);
      if (reply === 'died') continue;
      // The thread's response has the kind of the request.
      if (!reportsDamage(reply)) return responseOf(reply) as WriterResponses[Kind] | 'busy';
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

  /** The next thread must confirm damage that a thread found while it opened the file. */
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
    // Its callers get the error.
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
  post(request: WriterRequest): Promise<WriterMessage | 'died'>;
  hasEnded(): boolean;
  /** Resolves once the thread has exited. */
  readonly ended: Promise<Ending>;
}

interface Ending {
  /** It ended by itself, with all its work done. */
  readonly isInOrder: boolean;
  /** The error it died of, if there is one. */
  readonly cause: unknown;
}

async function endsInOrder({ ended }: Life): Promise<boolean> {
  return (await ended).isInOrder;
}

type Message = WriterStart | WriterMessage;

function beginLife(settings: WriterSettings): Life {
  // Neither environment nor flags: the thread reads no settings, and a loader would delay its
  // start.
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
      for (const deliver of waiting.splice(0)) deliver('died');
      resolve({ isInOrder: exitCode === 0, cause });
    });
  });

  return {
    // The thread sends one message at its start, and then one for each request.
    started: nextMessage() as Promise<WriterStart | 'died'>,
    post: (request) => {
      // A message to a thread that has exited is lost without an error.
      if (hasEnded) return Promise.resolve('died');
      worker.postMessage(request);
      return nextMessage() as Promise<WriterMessage | 'died'>;
    },
    hasEnded: () => hasEnded,
    ended,
  };
}

function responseOf(reply: WriterMessage): WriterResponses[RequestKind] | 'busy' {
  if (reply.kind === 'response') return reply.response;
  if (reply.kind === 'busy') return 'busy';
  throw errorOf(reply);
}

function isUnusable(error: unknown): boolean {
  return error instanceof StoreError && (error.code === 'damaged' || error.code === 'fatal');
}

function reportsDamage(reply: WriterMessage): reply is WriterError {
  if (reply.kind === 'stale') return true;
  return reply.kind === 'failed' && reply.failure.code === 'damaged';
}

function errorOf(refusal: WriterError): StoreError {
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
