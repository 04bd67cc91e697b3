/**
 * `fly-affinity run -- CMD ARGS`: the sidecar, and the app as its child process.
 *
 *   app started --its port opens----> serving --1st signal--> draining --drained--> signal to the app
 *     |      |                           |                        |                      |
 *     |  1st signal: start aborted,      |                        +--2nd signal--> that to the app
 *     |  signal to the app               |                        |                      |
 *     |      +--------- app exits -------+------------------------+----------------------+--> ended
 *     +--start fails--> SIGTERM to the app --------------------------------------------------+
 *
 * The public port is bound before the app starts; requests wait until the app serves. A signal to the app reaches all its processes. What is left of them STOP_TIMEOUT_MS after the first, or at
 * the next signal after the app has ended, is killed.
 */
import { reservePort, type ReservedPort } from '../http/reserved-port.ts';
import { portOf } from '../config/checks.ts';
import { environmentOfApp } from '../config/environment.ts';
import { startSidecar } from '../app/app.ts';
import { reportEarlyExit, warnIfPlaceIsTaken, watchForOtherPlaces } from '../app/misplaced-app.ts';
import {
  awaitPort,
  hostOf,
  startApp,
  type AppOptions,
  type AppProcess,
} from '../app/supervised-app.ts';
import {
  abortStart,
  isOverWithin,
  stopSidecar,
  type Ending,
  type Sidecar,
  type Signals,
} from '../app/lifecycle.ts';
import {
  runSidecarProcess,
  type ProcessContext,
  type SidecarProcess,
  type StartOptions,
  type StartSidecar,
} from '../app/sidecar-process.ts';
import { reportMistake, type CommandModule } from './command.ts';

export const USAGE = `Usage: fly-affinity run -- CMD ARGS

Starts the app as a child process, with PORT set to the port of UPSTREAM_URL, and runs the sidecar in
front of it. The public port opens first; requests wait until the app's port accepts connections, for
START_TIMEOUT_MS at most. The first signal drains, and then reaches the app; the second reaches it at once. All
processes of the app get it, and are killed if they do not exit within STOP_TIMEOUT_MS. Ends with the exit code
of the app; 127 if there is no such program, 126 if it can't be executed.
`;

export const execute: CommandModule['execute'] = ([dashes, ...command], context) => {
  if (dashes === '--' && command.length > 0) return runWithApp(context, startSidecar, command);
  const message = 'needs a command: fly-affinity run -- CMD ARGS';
  return Promise.resolve(reportMistake(context, message, 'run'));
};

/** How long the kernel may take to end killed processes, in ms. */
const KILLED_TIMEOUT_MS = 1_000;

/** Resolves to the app's exit code. */
export function runWithApp(
  context: ProcessContext,
  start: StartSidecar,
  command: readonly string[],
): Promise<number> {
  return runSidecarProcess(context, start, async (own) => {
    const reservedPort = await reservePort(own.config, own.config.maxConnections);
    try {
      return await runBehind(reservedPort, command, context, own);
    } finally {
      await reservedPort.close();
    }
  });
}

/** The public port is bound before the app runs, which would take it otherwise. */
async function runBehind(
  reservedPort: ReservedPort,
  command: readonly string[],
  context: ProcessContext,
  own: SidecarProcess,
): Promise<Ending> {
  await warnIfPlaceIsTaken(own);
  const appStartedAt = own.clock.now();
  const app = await startApp(command, appOptions(context, own));
  const onExit = (): void => app.processes.endNow();
  // The app has a process group of its own: it would outlive the sidecar.
  context.events.on('exit', onExit);
  own.logger.info({ port: portOf(own.config.upstreamUrl) }, 'app started');
  try {
    return await superviseApp(app, { reservedPort, appStartedAt }, own);
  } catch (error) {
    // Reported before waiting for the app, which may take long.
    return own.fail(error);
  } finally {
    await endApp(app, own);
    context.events.off('exit', onExit);
  }
}

function appOptions(
  { env }: ProcessContext,
  { config, logger, clock }: SidecarProcess,
): AppOptions {
  const { stopTimeoutMs } = config;
  return {
    env: environmentOfApp(env, portOf(config.upstreamUrl)),
    clock,
    killAfterMs: stopTimeoutMs,
    onKill: (processes) =>
      logger.warn(
        { processes, stopTimeoutMs },
        'killed the app, which did not exit after a signal',
      ),
  };
}

async function superviseApp(
  app: AppProcess,
  options: StartOptions,
  own: SidecarProcess,
): Promise<Ending> {
  const { signals, logger } = own;
  const starting = own.start({ ...options, isAppServing: () => isServing(app, own) });
  const isAborted = Promise.race([signals.nth(1), app.ended]).then(() => undefined);
  const sidecar = await Promise.race([starting, isAborted]);
  if (!sidecar) {
    const publicPort = options.reservedPort?.port;
    if (!signals.haveCome()) reportEarlyExit(await app.ended, publicPort, own);
    return endBeforeServing(app, starting, own);
  }
  const code = await superviseBoth(app, sidecar, own);
  await stopSidecar(sidecar, logger);
  return code;
}

/** False if the app exits, or a signal arrives, before the port of the app accepts connections. */
function isServing(app: AppProcess, own: SidecarProcess): Promise<boolean> {
  const { config, logger, clock, signals } = own;
  const waiting = new AbortController();
  const stopWaiting = (): void => waiting.abort();
  void app.ended.then(stopWaiting);
  void signals.nth(1).then(stopWaiting);
  const stopWatching = watchForOtherPlaces(app.processes, own);
  return awaitPort({
    host: hostOf(config.upstreamUrl),
    port: portOf(config.upstreamUrl),
    clock,
    signal: waiting.signal,
    onWaiting: (waitedMs) =>
      logger.info({ upstream: config.upstreamUrl.origin, waitedMs }, 'waiting for the app'),
  }).finally(stopWatching);
}

/** Nothing has to be drained: each signal goes to the app at once, while the sidecar stops. */
async function endBeforeServing(
  app: AppProcess,
  starting: Promise<Sidecar | undefined>,
  own: SidecarProcess,
): Promise<Ending> {
  const [code, isStopped] = await Promise.all([
    forwardSignals(app, own.signals, 1),
    abortStart(starting, own),
  ]);
  // An exit would wait for the start that hangs.
  return isStopped ? code : 'SIGTERM';
}

async function superviseBoth(
  app: AppProcess,
  sidecar: Sidecar,
  { signals, logger }: SidecarProcess,
): Promise<number> {
  const first = await Promise.race([signals.nth(1), app.ended]);
  if (typeof first === 'number') {
    logger.error({ code: first }, 'the app exited');
    return first;
  }
  logger.info({ signal: first }, 'draining');
  const isDrained = sidecar.drain().then(() => true);
  const isEndedEarly = Promise.race([signals.nth(2), app.ended]).then(() => false);
  if (await Promise.race([isDrained, isEndedEarly])) app.signal(first);
  return forwardSignals(app, signals, 2);
}

/** Forwards every signal at once, from the `count`th on, until the app exits. */
async function forwardSignals(app: AppProcess, signals: Signals, count: number): Promise<number> {
  const next = await Promise.race([app.ended, signals.nth(count)]);
  if (typeof next === 'number') return next;
  app.signal(next);
  return forwardSignals(app, signals, count + 1);
}

/** Ends what is left of the app: at the next signal, or when it has had its time, by SIGKILL. */
async function endApp(app: AppProcess, { signals, clock }: SidecarProcess): Promise<void> {
  if (!app.isSignalled) app.signal('SIGTERM');
  const gone = app.gone();
  await Promise.race([gone, signals.next().then(() => app.kill())]);
  await isOverWithin(KILLED_TIMEOUT_MS, gone, clock);
}
