/** The shared part of `serve` and `run`: configuration, log, signals, and a clean end. */
import type { SidecarParts } from './app.ts';
import type { Clock } from '../clock.ts';
import { collectGarbage } from '../collect-garbage.ts';
import { parseConfig, type Config, type Environment } from '../config/config.ts';
import {
  closeLogger,
  collectSignals,
  endOnCrash,
  exitCodeOf,
  type SignalSource,
  type Ending,
  type EndingParts,
  type Sidecar,
  type Signals,
} from './lifecycle.ts';
import { createLogger, type Logger } from '../observability/log.ts';
import { createMetrics } from '../observability/prometheus.ts';
import { readVersion } from '../package.ts';
import { persistGeneratedMachineId } from './generated-machine-id.ts';
import { EXIT_CONFIG, EXIT_FAILURE } from './exit-codes.ts';

/** The process and what surrounds it. */
export interface ProcessContext {
  readonly env: Environment;
  readonly clock: Clock;
  readonly random: () => number;
  readonly events: SignalSource;
  readonly printError: (text: string) => void;
  /** Ends the process immediately. */
  readonly exit: (code: number) => void;
  /** Ends the process as that signal does by default: at once, whatever its threads do. */
  readonly endBy: (signal: NodeJS.Signals) => void;
}

/** `startSidecar` of `app.ts`, or a test's replacement. */
export type StartSidecar = (config: Config, parts: SidecarParts) => Promise<Sidecar>;

export interface SidecarProcess extends EndingParts {
  readonly config: Config;
  readonly signals: Signals;
  /**
   * Starts the sidecar and logs one line. The public port waits for `isAppServing`; undefined if that
   * resolves to false, or if a signal arrives before. `appStartedAt`: when `run` started the app, in ms
   * since the epoch. Rejects if a part can't be started.
   */
  readonly start: (
    isAppServing?: () => Promise<boolean>,
    appStartedAt?: number,
  ) => Promise<Sidecar | undefined>;
  /** Logs why the sidecar can't be started; returns the exit code. */
  readonly fail: (error: unknown) => number;
}

/** Resolves to the exit code. */
export async function runSidecarProcess(
  surroundings: ProcessContext,
  startSidecar: StartSidecar,
  main: (process: SidecarProcess) => Promise<Ending>,
): Promise<number> {
  const { env, random, printError } = surroundings;
  const { config, warnings, mistakes } = parseConfig(env, random);
  if (mistakes) {
    printError(mistakeReport(mistakes));
    return EXIT_CONFIG;
  }
  const ending = await runConfigured(config, warnings, surroundings, startSidecar, main);
  if (typeof ending === 'number') return ending;
  surroundings.endBy(ending);
  // Still running: no signal ends the first process of a container by default.
  return exitCodeOf(ending);
}

async function runConfigured(
  parsed: Config,
  warnings: readonly string[],
  surroundings: ProcessContext,
  startSidecar: StartSidecar,
  main: (process: SidecarProcess) => Promise<Ending>,
): Promise<Ending> {
  const { clock, random, events, printError } = surroundings;
  const signals = collectSignals(events);
  const { config, warning: notKept } = await persistGeneratedMachineId(parsed, clock);
  const logger = createLogger({ level: config.logLevel, machine: config.identity.machine, clock });
  for (const warning of warnings) logger.warn({}, warning);
  if (notKept !== undefined) logger.warn({}, notKept);
  const metrics = createMetrics({ clock, version: readVersion() });
  const end = (): void => surroundings.exit(EXIT_FAILURE);
  const stopWatching = endOnCrash(events, { logger, clock, end });
  const parts = { clock, random, logger, metrics };
  const start = createStart(startSidecar, config, parts, signals);
  const fail: SidecarProcess['fail'] = (error) => {
    logger.fatal({ err: error }, 'could not start');
    printError(`fly-affinity: ${error instanceof Error ? error.message : String(error)}\n`);
    return EXIT_FAILURE;
  };
  try {
    return await main({ config, logger, clock, signals, start, fail }).catch(fail);
  } finally {
    signals.stop();
    stopWatching();
    metrics.close();
    await closeLogger(logger, clock);
  }
}

function createStart(
  startSidecar: StartSidecar,
  config: Config,
  parts: SidecarParts,
  signals: Signals,
): SidecarProcess['start'] {
  return async (isAppServing = () => Promise.resolve(true), appStartedAt) => {
    const untilAppListens = async (): Promise<void> => {
      if (!(await isAppServing()) || signals.haveCome()) throw new StartCalledOff();
    };
    const sidecar = await unlessCalledOff(
      startSidecar(config, { ...parts, untilAppListens, appStartedAt }),
    );
    if (sidecar) logStart(parts.logger, config, sidecar);
    collectGarbage();
    return sidecar;
  };
}

class StartCalledOff extends Error {
  override readonly name = 'StartCalledOff';
}

async function unlessCalledOff(starting: Promise<Sidecar>): Promise<Sidecar | undefined> {
  try {
    return await starting;
  } catch (error) {
    if (error instanceof StartCalledOff) return undefined;
    throw error;
  }
}

function mistakeReport(mistakes: readonly string[]): string {
  const count = mistakes.length === 1 ? '1 mistake' : `${mistakes.length} mistakes`;
  const lines = mistakes.map((mistake) => `  ${mistake}\n`);
  return `fly-affinity: ${count} in the configuration\n${lines.join('')}`;
}

/** One line with the version, the listeners, the store and the fleet. */
function logStart(logger: Logger, config: Config, sidecar: Sidecar): void {
  const { store, fleet } = sidecar.readiness();
  const { app, region, isGenerated } = config.identity;
  logger.info(
    {
      version: readVersion(),
      node: process.version,
      app,
      region,
      isMadeUp: isGenerated || undefined,
      host: config.host,
      ports: sidecar.ports,
      upstream: config.upstreamUrl.origin,
      protocols: config.protocols.map(({ name }) => name),
      hints: config.hints,
      store: { ...store, ...(store.kind === 'sqlite' && { path: config.store.path }) },
      fleet,
    },
    'serving',
  );
}
