/** What `serve` and `run` have in common: configuration, log, signals, and an orderly end. */
import type { SidecarParts } from '../app.ts';
import type { Clock } from '../clock.ts';
import { parseConfig, type Config, type Environment } from '../config.ts';
import {
  closeLogger,
  collectSignals,
  endOnCrash,
  type EndedBySignals,
  type Sidecar,
  type Signals,
} from '../lifecycle.ts';
import { createLogger, type Logger } from '../logger.ts';
import { createMetrics } from '../metrics/prometheus.ts';
import { readVersion } from '../version.ts';

/** The process and what surrounds it. */
export interface Surroundings {
  readonly env: Environment;
  readonly clock: Clock;
  readonly random: () => number;
  readonly events: EndedBySignals;
  readonly printError: (text: string) => void;
  /** Ends the process where it stands. */
  readonly exit: (code: number) => void;
}

/** `startSidecar` of `app.ts`, or what a test puts in its place. */
export type StartSidecar = (config: Config, parts: SidecarParts) => Promise<Sidecar>;

export interface SidecarProcess {
  readonly config: Config;
  readonly logger: Logger;
  readonly signals: Signals;
  /** Starts the sidecar and says so in one line. The public port waits for `untilAppAnswers`. */
  readonly start: (untilAppAnswers?: () => Promise<void>) => Promise<Sidecar>;
}

/** sysexits.h */
export const EXIT_USAGE = 64;
export const EXIT_CONFIG = 78;
export const EXIT_FAILURE = 1;

/** Resolves to the exit code. */
export async function runSidecarProcess(
  surroundings: Surroundings,
  startSidecar: StartSidecar,
  main: (process: SidecarProcess) => Promise<number>,
): Promise<number> {
  const { env, clock, random, events, printError } = surroundings;
  const { config, warnings, mistakes } = parseConfig(env, random);
  if (mistakes) {
    printError(mistakeReport(mistakes));
    return EXIT_CONFIG;
  }
  const logger = createLogger({ level: config.logLevel, machine: config.identity.machine, clock });
  for (const warning of warnings) logger.warn({}, warning);
  const metrics = createMetrics({ clock, version: readVersion() });
  const signals = collectSignals(events);
  const end = (): void => surroundings.exit(EXIT_FAILURE);
  const stopWatching = endOnCrash(events, { logger, clock, end });
  const parts = { clock, random, logger, metrics };
  const start: SidecarProcess['start'] = async (untilAppAnswers) => {
    const sidecar = await startSidecar(config, {
      ...parts,
      ...(untilAppAnswers && { untilAppAnswers }),
    });
    logStart(logger, config, sidecar);
    return sidecar;
  };
  try {
    return await main({ config, logger, signals, start });
  } catch (error) {
    logger.fatal({ err: error }, 'could not start');
    printError(`fly-affinity: ${error instanceof Error ? error.message : String(error)}\n`);
    return EXIT_FAILURE;
  } finally {
    signals.stop();
    stopWatching();
    metrics.close();
    await closeLogger(logger, clock);
  }
}

function mistakeReport(mistakes: readonly string[]): string {
  const count = mistakes.length === 1 ? '1 mistake' : `${mistakes.length} mistakes`;
  const lines = mistakes.map((mistake) => `  ${mistake}\n`);
  return `fly-affinity: ${count} in the configuration\n${lines.join('')}`;
}

/** The one line that says what this is, where it listens, which store and which fleet it uses. */
function logStart(logger: Logger, config: Config, sidecar: Sidecar): void {
  const { store, fleet } = sidecar.readiness();
  const { app, region, isMadeUp } = config.identity;
  logger.info(
    {
      version: readVersion(),
      node: process.version,
      app,
      region,
      isMadeUp: isMadeUp || undefined,
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
