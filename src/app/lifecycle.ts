/**
 * How a sidecar ends. A first signal drains it, then it stops; a second one ends it at once.
 *
 *   starting --> serving --signal--> draining --drained--> stopping --> ended, 0
 *      |                                |                     |
 *      +--signal--> called off --stopped, as soon as it can be-----> ended, 0
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
   * Takes no new sessions; resolves once no request is open and none has come for a second, or after
   * `DRAIN_TIMEOUT_MS`. Never rejects. The second call waits for the first.
   */
  drain(): Promise<void>;
  /** Cuts what is still open and frees everything. The second call waits for the first. */
  stop(): Promise<void>;
}

/** A process, as far as its end is concerned. */
export type SignalSource = Pick<NodeJS.EventEmitter, 'on' | 'off'>;

export interface Signals {
  /** Resolves to the first, second, ... signal: at once if it has come already. */
  nth(count: number): Promise<NodeJS.Signals>;
  /** Resolves to the next one that is still to come. */
  next(): Promise<NodeJS.Signals>;
  haveCome(): boolean;
  /** Back to what signals do by default. */
  stop(): void;
}

/** SIGINT is Fly's default `kill_signal`; SIGHUP is a terminal that is closed. */
const ENDING_SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];
const SIGNAL_EXIT_CODE = 128;

/** How long a start that is called off has to stop in order: less than Fly's `kill_timeout`, 5 s. */
const CALL_OFF_TIMEOUT_MS = 3_000;

/**
 * An exit code, or the signal that ends the process where it stands: an exit waits for threads, and
 * one that hangs in the kernel, or for another process's lock, would keep it.
 */
export type Ending = number | NodeJS.Signals;

/** What of the process an end needs. */
export interface EndingParts {
  readonly logger: Logger;
  readonly clock: Clock;
}

/**
 * Serves until a signal comes. A signal before `starting` has resolved calls the start off. Rejects
 * if the start fails by itself.
 */
export async function serveUntilSignal(
  starting: Promise<Sidecar | undefined>,
  signals: Signals,
  parts: EndingParts,
): Promise<Ending> {
  const atOnce = signals.nth(2).then((signal) => {
    parts.logger.warn({ signal }, 'ended at once by a second signal');
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
    logger.info({ signal }, 'the start is called off');
    return (await abortStart(starting, parts)) ? 0 : signal;
  }
  logger.info({ signal }, 'draining');
  await sidecar.drain();
  await stopSidecar(sidecar, logger);
  return 0;
}

/** Stops what comes of a start that nobody wants any more. Resolves to false if the start hangs. */
export async function abortStart(
  starting: Promise<Sidecar | undefined>,
  { logger, clock }: EndingParts,
): Promise<boolean> {
  const stopped = stopOnceStarted(starting, logger);
  const isStopped = await isOverWithin(CALL_OFF_TIMEOUT_MS, stopped, clock);
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
    logger.error({ err: error }, 'the start failed after it was called off');
  }
}

/** What goes wrong while stopping is logged and ends nothing: the process ends anyway. */
export async function stopSidecar(sidecar: Sidecar, logger: Logger): Promise<void> {
  try {
    await sidecar.stop();
    logger.info({}, 'stopped');
  } catch (error) {
    logger.error({ err: error }, 'stopping failed');
  }
}

/** What a shell says of a process that a signal has ended. */
export function exitCodeOf(signal: NodeJS.Signals): number {
  return SIGNAL_EXIT_CODE + constants.signals[signal];
}

/** From now on signals end nothing by themselves. */
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

/** How long the last lines may take, in ms: a reader that does not read must not keep the process. */
const LAST_LINES_TIMEOUT_MS = 1000;

/** Writes what is waiting, if anybody reads it. */
export async function closeLogger(logger: Logger, clock: Clock): Promise<void> {
  await isOverWithin(LAST_LINES_TIMEOUT_MS, logger.close(), clock);
}

/** Whether `work` resolves within `ms`. Rejects if that does first. */
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
 * A defect that nobody has caught: what state things are in is not known any more, so it is logged
 * and the process ends. `end` is called once, when the line is written. Returns what undoes it.
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
