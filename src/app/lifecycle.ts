/**
 * How a sidecar ends. A first signal drains it, then it stops; a second one ends it at once.
 *
 *   starting --> serving --signal--> draining --drained--> stopping --> ended, 0
 *      |                                |                     |
 *      +--signal--> aborted --stopped, as soon as possible---------> ended, 0
 *                       |               |                     |
 *                       +---2nd signal--+------2nd signal-----+----> ended by that signal
 *                       +---hangs----------------------------------> ended by the first signal
 */
import { constants } from 'node:os';
import type { Readiness } from '../admin/health.ts';
import type { Clock } from '../clock.ts';
import type { Logger } from '../observability/log.ts';

/** A running sidecar. */
export interface Sidecar {
  readonly ports: { readonly public: number; readonly peer: number; readonly admin: number };
  readiness(): Readiness;
  /**
   * Takes no new sessions; resolves once no request was open for a second, or after
   * `DRAIN_TIMEOUT_MS`. Never rejects. The second call waits for the first.
   */
  drain(): Promise<void>;
  /** Closes open connections and frees all resources. The second call waits for the first. */
  stop(): Promise<void>;
}

/** A process as a source of signals. */
export type SignalSource = Pick<NodeJS.EventEmitter, 'on' | 'off'>;

export interface Signals {
  /** Resolves to the first, second, ... signal: at once if it has arrived already. */
  nth(count: number): Promise<NodeJS.Signals>;
  /** Resolves to the next future signal. */
  next(): Promise<NodeJS.Signals>;
  haveCome(): boolean;
  /** Restores the default handling of signals. */
  stop(): void;
}

/** SIGINT is Fly's default `kill_signal`; SIGHUP is a terminal that is closed. */
const ENDING_SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];
const SIGNAL_EXIT_CODE = 128;

/** How long an aborted start may take to stop cleanly: less than Fly's `kill_timeout`, 5 s. */
const ABORT_TIMEOUT_MS = 3_000;

/**
 * An exit code, or the signal that ends the process immediately: an exit waits for threads, and a thread
 * that hangs in the kernel, or on another process's lock, would block it.
 */
export type Ending = number | NodeJS.Signals;

/** The parts of the process that an end needs. */
export interface EndingParts {
  readonly logger: Logger;
  readonly clock: Clock;
}

/**
 * Serves until a signal arrives. A signal before `starting` has resolved aborts the start. Rejects if the
 * start fails.
 */
export async function serveUntilSignal(
  starting: Promise<Sidecar | undefined>,
  signals: Signals,
  parts: EndingParts,
): Promise<Ending> {
  const atOnce = signals.nth(2).then((signal) => {
    parts.logger.warn({ signal }, 'ended immediately by a second signal');
    return signal;
  });
  return Promise.race([serveInOrder(starting, signals, parts), atOnce]);
}

async function serveInOrder(
  starting: Promise<Sidecar | undefined>,
  signals: Signals,
  parts: EndingParts,
): Promise<Ending> {
  const { logger } = parts;
  const sidecar = await Promise.race([starting, signals.nth(1).then(() => undefined)]);
  const signal = await signals.nth(1);
  if (!sidecar) {
    logger.info({ signal }, 'the start is aborted');
    return (await abortStart(starting, parts)) ? 0 : signal;
  }
  logger.info({ signal }, 'draining');
  await sidecar.drain();
  await stopSidecar(sidecar, logger);
  return 0;
}

/** Stops the sidecar of an aborted start. Resolves to false if the start hangs. */
export async function abortStart(
  starting: Promise<Sidecar | undefined>,
  { logger, clock }: EndingParts,
): Promise<boolean> {
  const stopped = stopOnceStarted(starting, logger);
  const isStopped = await isOverWithin(ABORT_TIMEOUT_MS, stopped, clock);
  if (!isStopped) logger.error({}, 'the start hangs');
  return isStopped;
}

async function stopOnceStarted(
  starting: Promise<Sidecar | undefined>,
  logger: Logger,
): Promise<void> {
  try {
    const sidecar = await starting;
    if (sidecar) await stopSidecar(sidecar, logger);
  } catch (error) {
    logger.error({ err: error }, 'the start failed after it was aborted');
  }
}

/** Logs a failure to stop and continues: the process ends anyway. */
export async function stopSidecar(sidecar: Sidecar, logger: Logger): Promise<void> {
  try {
    await sidecar.stop();
    logger.info({}, 'stopped');
  } catch (error) {
    logger.error({ err: error }, 'stopping failed');
  }
}

/** The exit code that a shell reports for a process that a signal ended. */
export function exitCodeOf(signal: NodeJS.Signals): number {
  return SIGNAL_EXIT_CODE + constants.signals[signal];
}

/** From now on, signals do not end the process by default. */
export function collectSignals(source: SignalSource): Signals {
  const received: NodeJS.Signals[] = [];
  const waiting: { readonly count: number; readonly resolve: (signal: NodeJS.Signals) => void }[] =
    [];
  const receive = (signal: NodeJS.Signals): void => {
    received.push(signal);
    for (const { count, resolve } of waiting) if (count === received.length) resolve(signal);
  };
  for (const name of ENDING_SIGNALS) source.on(name, receive);
  const nth = (count: number): Promise<NodeJS.Signals> =>
    new Promise((resolve) => {
      const signal = received[count - 1];
      if (signal) resolve(signal);
      else waiting.push({ count, resolve });
    });
  return {
    nth,
    next: () => nth(received.length + 1),
    haveCome: () => received.length > 0,
    stop: () => {
      for (const name of ENDING_SIGNALS) source.off(name, receive);
    },
  };
}

/** How long the last lines may take, in ms: a reader that does not read must not block the process. */
const LAST_LINES_TIMEOUT_MS = 1000;

/** Writes the pending lines, if there is a reader. */
export async function closeLogger(logger: Logger, clock: Clock): Promise<void> {
  await isOverWithin(LAST_LINES_TIMEOUT_MS, logger.close(), clock);
}

/** Whether `work` resolves within `ms`. Rejects if `work` rejects first. */
export async function isOverWithin(
  ms: number,
  work: Promise<unknown>,
  clock: Clock,
): Promise<boolean> {
  const timeout = new AbortController();
  const isLate = clock.sleep(ms, timeout.signal).then(() => false);
  try {
    return await Promise.race([work.then(() => true), isLate]);
  } finally {
    timeout.abort();
  }
}

const CRASHES = ['uncaughtException', 'unhandledRejection'] as const;

/**
 * For an uncaught error: the state of the process is unknown, so it is logged and the process ends.
 * `end` is called once, after the line is written. Returns a function that removes the handlers.
 */
export function endOnCrash(
  source: SignalSource,
  { logger, clock, end }: EndingParts & { readonly end: () => void },
): () => void {
  let hasCrashed = false;
  const crash = (error: unknown): void => {
    if (hasCrashed) return;
    hasCrashed = true;
    logger.fatal({ err: error }, 'ended by a defect');
    void closeLogger(logger, clock).then(end);
  };
  for (const event of CRASHES) source.on(event, crash);
  return () => {
    for (const event of CRASHES) source.off(event, crash);
  };
}

/* The exit codes of the program, except 0 and the app's own code (sysexits.h). */

export const EXIT_FAILURE = 1;
/** The arguments are wrong. */
export const EXIT_USAGE = 64;
/** A store or a sidecar can't be reached, or fails. */
export const EXIT_UNAVAILABLE = 69;
/** The environment is wrong. */
export const EXIT_CONFIG = 78;
