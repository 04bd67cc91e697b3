/** The shared part of `serve` and `run`: configuration, log, signals, and a clean end. */
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { SidecarParts } from './app.ts';
import type { Clock } from '../clock.ts';
import { collectGarbage } from '../collect-garbage.ts';
import { parseConfig, type Config, type Environment } from '../config/config.ts';
import { describeMistakes } from '../config/mistakes.ts';
import { warnAboutUpstream } from '../config/upstream.ts';
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
  EXIT_CONFIG,
  EXIT_FAILURE,
} from './lifecycle.ts';
import { AppStartError } from './supervised-app.ts';
import { createLogger, type Logger } from '../observability/log.ts';
import { createMetrics } from '../observability/prometheus.ts';
import { readVersion } from '../package.ts';
import { listedNames } from '../protocols/setting.ts';
import { parseMachineId, type MachineId } from '../session.ts';
import { createDirectories } from '../store/sqlite/sqlite.ts';
import { codeOf, messageOf } from '../errors.ts';

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
   * Starts the sidecar and logs one line. Undefined if `isAppServing` resolves to false, or if a signal
   * arrives before. Rejects if a part can't be started.
   */
  readonly start: (options?: StartOptions) => Promise<Sidecar | undefined>;
  /** Logs why the sidecar, or the app, can't be started; returns the exit code. */
  readonly fail: (error: unknown) => number;
}

export interface StartOptions extends Pick<SidecarParts, 'reservedPort' | 'appStartedAt'> {
  /** Requests are held until it resolves; true by default. */
  readonly isAppServing?: () => Promise<boolean>;
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
    printError(`fly-affinity: ${describeMistakes(mistakes)}\n`);
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
  const { logLevel: level, logFormat: format, identity } = config;
  const logger = createLogger({ level, format, machine: identity.machine, clock });
  for (const warning of [...warnings, ...warnAboutUpstream(config, surroundings.env)])
    logger.warn({}, warning);
  if (notKept !== undefined) logger.warn({}, notKept);
  const metrics = createMetrics({ clock, version: readVersion() });
  const end = (): void => surroundings.exit(EXIT_FAILURE);
  const stopWatching = endOnCrash(events, { logger, clock, end });
  const parts = { clock, random, logger, metrics };
  const start = createStart(startSidecar, config, parts, signals);
  const fail: SidecarProcess['fail'] = (error) => {
    logger.fatal({ err: error }, 'could not start');
    printError(`fly-affinity: ${messageOf(error)}\n`);
    return error instanceof AppStartError ? error.exitCode : EXIT_FAILURE;
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
  return async ({ isAppServing = () => Promise.resolve(true), ...options } = {}) => {
    const untilAppListens = async (): Promise<void> => {
      if (!(await isAppServing()) || signals.haveCome()) throw new StartAborted();
    };
    const sidecar = await unlessAborted(
      startSidecar(config, { ...parts, ...options, untilAppListens }),
    );
    if (sidecar) logStart(parts.logger, config, sidecar);
    collectGarbage();
    return sidecar;
  };
}

class StartAborted extends Error {
  override readonly name = 'StartAborted';
}

async function unlessAborted(starting: Promise<Sidecar>): Promise<Sidecar | undefined> {
  try {
    return await starting;
  } catch (error) {
    if (error instanceof StartAborted) return undefined;
    throw error;
  }
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
      isGenerated: isGenerated || undefined,
      host: config.host,
      ports: sidecar.ports,
      upstream: config.upstreamUrl.origin,
      protocols: listedNames(config.protocols),
      hints: config.hints,
      store: { ...store, ...(store.kind === 'sqlite' && { path: config.store.path }) },
      fleet,
      traces: config.tracing?.url,
    },
    'serving',
  );
}

/** In ms: a hanging disk must not block the start. */
const MACHINE_ID_TIMEOUT_MS = 1_000;
const GENERATED_ID = /^(local\d{9})\n?$/;

interface PersistedId {
  readonly config: Config;
  /** Why the id could not be stored. */
  readonly warning?: string;
}

/**
 * The configuration with the id of an earlier start, or with a new id that is stored for later starts:
 * the bindings of a sidecar outside Fly.io, and the hints in its clients' ids, name it. In a file of
 * its own beside the store: the id is needed before the store is open, and while the store is damaged.
 * A copy of the store file alone does not carry the id. Never rejects.
 */
export async function persistGeneratedMachineId(
  config: Config,
  clock: Clock,
): Promise<PersistedId> {
  const { identity, store } = config;
  if (!identity.isGenerated || !store.isEnabled || store.url) return { config };
  const path = `${store.path}.machine`;
  const timeout = new AbortController();
  try {
    const machine = await Promise.race([
      readOrWrite(path, identity.machine),
      clock.sleep(MACHINE_ID_TIMEOUT_MS, timeout.signal).then(() => undefined),
    ]);
    if (machine === undefined) return { config, warning: warningOf(path, 'the disk hangs') };
    return {
      config: Object.freeze({ ...config, identity: Object.freeze({ ...identity, machine }) }),
    };
  } catch (error) {
    return { config, warning: warningOf(path, codeOf(error) ?? 'unknown') };
  } finally {
    timeout.abort();
  }
}

function warningOf(path: string, reason: string): string {
  return `could not store the generated Machine id in ${path} (${reason}): it changes with every start; set FLY_MACHINE_ID`;
}

async function readOrWrite(path: string, madeUp: MachineId): Promise<MachineId> {
  const found = GENERATED_ID.exec(await textOf(path))?.[1];
  const kept = found === undefined ? undefined : parseMachineId(found);
  if (kept !== undefined) return kept;
  await createDirectories(dirname(path));
  await writeWhole(path, `${madeUp}\n`, `${path}.${madeUp}`);
  return madeUp;
}

/** An unreadable file may still be replaced. */
function textOf(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}

/** Atomic: writes a temporary file and renames it. */
async function writeWhole(path: string, text: string, temporaryPath: string): Promise<void> {
  try {
    await writeFile(temporaryPath, text, { mode: 0o600, flush: true });
    await rename(temporaryPath, path);
  } catch (error) {
    await rm(temporaryPath, { force: true }).catch(() => undefined);
    throw error;
  }
}
