/** The writer thread as the main thread sees it: started, asked, started again once it died, stopped. */
import { Worker } from 'node:worker_threads';
import type { Clock } from '../clock.ts';
import type {
  RequestKind,
  RequestOf,
  WriterAnswers,
  WriterReply,
  WriterRequest,
  WriterSettings,
} from './sqlite-protocol.ts';
import { StoreError } from './store.ts';

export interface WriterThread {
  /** Resolves once the file is open; rejects with a {@link StoreError} that says why it is not. */
  start(): Promise<void>;
  /**
   * Rejects with a {@link StoreError}: `passing` if the thread died before it answered, and then
   * whether the request was performed is not known. The next request starts another thread.
   */
  ask<Kind extends RequestKind>(request: RequestOf<Kind>): Promise<WriterAnswers[Kind] | 'busy'>;
  /** Closes the file and waits until the thread has ended. */
  stop(): Promise<void>;
}

/** A thread that dies again and again is started this often at most. */
const RESTART_PAUSE_MS = 1_000;

/** Plain node runs the sources too, so a loader of the main thread's is never needed there. */
const WRITER_URL = new URL(
  import.meta.url.endsWith('.ts') ? './sqlite-writer.ts' : './sqlite-writer.js',
  import.meta.url,
);

/** `onDeath` is told of a thread that ended by itself. */
export function createWriterThread(
  settings: WriterSettings,
  clock: Clock,
  onDeath: (error: StoreError) => void,
): WriterThread {
  let life: Life | undefined;
  let restartedAt = -Infinity;
  let isStopped = false;

  const begin = (): Life => {
    const begun = beginLife(settings);
    life = begun;
    void begun.ended.then((reason) => {
      if (isStopped) return;
      life = undefined;
      onDeath(reason);
    });
    return begun;
  };
  const restart = (): Life => {
    if (isStopped) throw new StoreError('closed', 'the session store is closed');
    if (clock.monotonicMs() - restartedAt < RESTART_PAUSE_MS) {
      throw new StoreError('passing', 'the writer thread of the session store keeps dying');
    }
    restartedAt = clock.monotonicMs();
    return begin();
  };

  return {
    start: () => begin().opened,
    ask: async <Kind extends RequestKind>(request: RequestOf<Kind>) => {
      const living = life ?? restart();
      await living.opened;
      // The thread answers each request with the answer of its kind.
      return answerOf(await living.post(request)) as WriterAnswers[Kind] | 'busy';
    },
    stop: async () => {
      isStopped = true;
      if (life === undefined) return;
      // A thread that dies instead has ended all the same.
      await life.post({ kind: 'close' }).catch(() => undefined);
      await life.ended;
    },
  };
}

/** One thread from its start to its end. */
interface Life {
  readonly opened: Promise<void>;
  post(request: WriterRequest): Promise<WriterReply>;
  /** Resolves once it is gone, with what is to be said of it if that was not asked for. */
  readonly ended: Promise<StoreError>;
}

interface Waiting {
  readonly resolve: (reply: WriterReply) => void;
  readonly reject: (error: StoreError) => void;
}

function beginLife(settings: WriterSettings): Life {
  // Neither environment nor flags: the thread reads no settings, and a loader would delay its start.
  const worker = new Worker(WRITER_URL, { workerData: settings, env: {}, execArgv: [] });
  const waiting: Waiting[] = [];
  let cause: unknown;
  let death: StoreError | undefined;
  const nextReply = (): Promise<WriterReply> =>
    new Promise((resolve, reject) => waiting.push({ resolve, reject }));

  worker.on('message', (reply: WriterReply) => waiting.shift()?.resolve(reply));
  worker.on('error', (error: unknown) => {
    cause = error;
  });
  const ended = new Promise<StoreError>((resolve) => {
    worker.once('exit', () => {
      death = new StoreError('passing', 'the writer thread of the session store died', { cause });
      for (const { reject } of waiting.splice(0)) reject(death);
      resolve(death);
    });
  });

  return {
    opened: nextReply().then((reply) => {
      if (answerOf(reply) === 'busy')
        throw new StoreError('passing', 'another process holds its lock');
    }),
    post: (request) => {
      // What is posted to a thread that is gone is lost without a word.
      if (death) return Promise.reject(death);
      worker.postMessage(request);
      return nextReply();
    },
    ended,
  };
}

function answerOf(reply: WriterReply): WriterAnswers[RequestKind] | 'busy' {
  switch (reply.kind) {
    case 'answer':
      return reply.answer;
    case 'busy':
      return 'busy';
    case 'failed':
      throw new StoreError(reply.failure.code, reply.failure.message);
  }
}
