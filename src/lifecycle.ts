/**
 * How a sidecar ends. A first signal drains it, then it stops; a second one ends it at once.
 *
 *   serving --signal--> draining --drained--> stopping --> ended, 0
 *                          |                     |
 *                          +----- signal --------+-------> ended, 128 + signal
 */
import { constants } from 'node:os';
import type { Readiness } from './admin.ts';
import type { Clock } from './clock.ts';
import type { Logger } from './logger.ts';

/** A running sidecar. */
export interface Sidecar {
  readonly ports: { readonly public: number; readonly peer: number; readonly admin: number };
  readiness(): Readiness;
  /**
   * Takes no new sessions; resolves once no request is open, or after `DRAIN_TIMEOUT_MS`. Never
   * rejects. The second call waits for the first.
   */
  drain(): Promise<void>;
  /** Cuts what is still open and frees everything. The second call waits for the first. */
  stop(): Promise<void>;
}

/** A process, as far as its end is concerned. */
export type EndedBySignals = Pick<NodeJS.EventEmitter, 'on' | 'off'>;

export interface Signals {
  /** Resolves to the first, second, ... signal: at once if it has come already. */
  nth(count: number): Promise<NodeJS.Signals>;
  /** Back to what signals do by default. */
  stop(): void;
}

/** SIGINT is Fly's default `kill_signal`; SIGHUP is a terminal that is closed. */
const ENDING_SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];
const SIGNAL_EXIT_CODE = 128;

/** Serves until a signal comes; resolves to the exit code. */
export async function serveUntilSignal(
  sidecar: Sidecar,
  signals: Signals,
  logger: Logger,
): Promise<number> {
  const signal = await signals.nth(1);
  logger.info({ signal }, 'draining');
  const atOnce = signals.nth(2).then((second) => {
    logger.warn({ signal: second }, 'ended at once by a second signal');
    return exitCodeOf(second);
  });
  return Promise.race([drainAndStop(sidecar, logger), atOnce]);
}

async function drainAndStop(sidecar: Sidecar, logger: Logger): Promise<number> {
  await sidecar.drain();
  await stopSidecar(sidecar, logger);
  return 0;
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
export function collectSignals(source: EndedBySignals): Signals {
  const received: NodeJS.Signals[] = [];
  const waiting: { readonly count: number; readonly resolve: (signal: NodeJS.Signals) => void }[] =
    [];
  const receive = (signal: NodeJS.Signals): void => {
    received.push(signal);
    for (const { count, resolve } of waiting) if (count === received.length) resolve(signal);
  };
  for (const name of ENDING_SIGNALS) source.on(name, receive);
  return {
    nth: (count) =>
      new Promise((resolve) => {
        const signal = received[count - 1];
        if (signal) resolve(signal);
        else waiting.push({ count, resolve });
      }),
    stop: () => {
      for (const name of ENDING_SIGNALS) source.off(name, receive);
    },
  };
}

/** How long the last lines may take, in ms: a reader that does not read must not keep the process. */
const LAST_LINES_TIMEOUT_MS = 1000;

/** Writes what is waiting, if anybody reads it. */
export async function closeLogger(logger: Logger, clock: Clock): Promise<void> {
  const timeout = new AbortController();
  await Promise.race([logger.close(), clock.sleep(LAST_LINES_TIMEOUT_MS, timeout.signal)]);
  timeout.abort();
}

const CRASHES = ['uncaughtException', 'unhandledRejection'] as const;

/**
 * A defect that nobody has caught: what state things are in is not known any more, so it is logged
 * and the process ends. `end` is called once, when the line is written. Returns what undoes it.
 */
export function endOnCrash(
  source: EndedBySignals,
  {
    logger,
    clock,
    end,
  }: { readonly logger: Logger; readonly clock: Clock; readonly end: () => void },
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
