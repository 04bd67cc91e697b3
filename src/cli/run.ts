/**
 * `fly-affinity run -- CMD ARGS`: the sidecar, and the app as its child.
 *
 *   app started --its port answers--> serving --1st signal--> draining --drained--> signal to the app
 *     |      |                           |                        |                      |
 *     |  1st signal: start called off,   |                        +--2nd signal--> that to the app
 *     |  signal to the app               |                        |                      |
 *     |      +--------- app ends --------+------------------------+----------------------+--> ended
 *     +--start fails--> SIGTERM to the app --late, or a signal--> app killed --------------> ended
 */
import { portOf } from '../config/checks.ts';
import { awaitPort } from '../app/await-port.ts';
import {
  abortStart,
  isOverWithin,
  stopSidecar,
  type Ending,
  type Sidecar,
  type Signals,
} from '../app/lifecycle.ts';
import { startApp, type AppProcess } from '../app/supervised-app.ts';
import {
  runSidecarProcess,
  type SidecarProcess,
  type StartSidecar,
  type ProcessContext,
} from '../app/sidecar-process.ts';

/** How long the app has to end after SIGTERM where there is nothing left to serve. */
const APP_END_TIMEOUT_MS = 5_000;

/** Resolves to the app's exit code. */
export function run(
  surroundings: ProcessContext,
  startSidecar: StartSidecar,
  command: readonly string[],
): Promise<number> {
  return runSidecarProcess(surroundings, startSidecar, async (own) => {
    // PORT is ours: the app would take it away from us.
    const port = String(portOf(own.config.upstreamUrl));
    const startedAt = own.clock.now();
    const app = await startApp(command, { ...surroundings.env, PORT: port });
    const onExit = (): void => app.signal('SIGTERM');
    // However we end, the app must not be left behind: it has a process group of its own.
    surroundings.events.on('exit', onExit);
    own.logger.info({ port }, 'app started');
    try {
      return await superviseApp(app, startedAt, own);
    } catch (error) {
      // Told before the app is waited for, which may take its time.
      return own.fail(error);
    } finally {
      await endApp(app, own);
      surroundings.events.off('exit', onExit);
    }
  });
}

async function superviseApp(
  app: AppProcess,
  startedAt: number,
  own: SidecarProcess,
): Promise<Ending> {
  const { signals, logger } = own;
  const starting = own.start(() => isServing(app, own), startedAt);
  const isCalledOff = Promise.race([signals.nth(1), app.ended]).then(() => undefined);
  const sidecar = await Promise.race([starting, isCalledOff]);
  if (!sidecar) return endBeforeServing(app, starting, own);
  const code = await superviseBoth(app, sidecar, own);
  await stopSidecar(sidecar, logger);
  return code;
}

/** False if the app has ended, or a signal has come, before its port answered. */
function isServing(
  app: AppProcess,
  { config, logger, clock, signals }: SidecarProcess,
): Promise<boolean> {
  const waiting = new AbortController();
  const giveUp = (): void => waiting.abort();
  void app.ended.then(giveUp);
  void signals.nth(1).then(giveUp);
  return awaitPort({
    host: config.upstreamUrl.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: portOf(config.upstreamUrl),
    clock,
    signal: waiting.signal,
    onWaiting: (waitedMs) =>
      logger.info({ upstream: config.upstreamUrl.origin, waitedMs }, 'waiting for the app'),
  });
}

/** Nothing has to be drained: the app gets each signal at once, while the sidecar is stopped. */
async function endBeforeServing(
  app: AppProcess,
  starting: Promise<Sidecar | undefined>,
  own: SidecarProcess,
): Promise<Ending> {
  const [code, isStopped] = await Promise.all([
    relaySignals(app, own.signals, 1),
    abortStart(starting, own),
  ]);
  // An exit would wait for what hangs.
  return isStopped ? code : 'SIGTERM';
}

async function superviseBoth(
  app: AppProcess,
  sidecar: Sidecar,
  { signals, logger }: SidecarProcess,
): Promise<number> {
  const first = await Promise.race([signals.nth(1), app.ended]);
  if (typeof first === 'number') {
    logger.error({ code: first }, 'the app has ended');
    return first;
  }
  logger.info({ signal: first }, 'draining');
  const isDrained = sidecar.drain().then(() => true);
  const isCutShort = Promise.race([signals.nth(2), app.ended]).then(() => false);
  if (await Promise.race([isDrained, isCutShort])) app.signal(first);
  return relaySignals(app, signals, 2);
}

/** Passes every signal on at once, from the `count`th on, until the app has ended. */
async function relaySignals(app: AppProcess, signals: Signals, count: number): Promise<number> {
  const next = await Promise.race([app.ended, signals.nth(count)]);
  if (typeof next === 'number') return next;
  app.signal(next);
  return relaySignals(app, signals, count + 1);
}

/** An app that ignores SIGTERM is killed: at the next signal, or when its time is over. */
async function endApp(app: AppProcess, { signals, logger, clock }: SidecarProcess): Promise<void> {
  app.signal('SIGTERM');
  await isOverWithin(APP_END_TIMEOUT_MS, Promise.race([app.ended, signals.next()]), clock);
  if (app.kill()) logger.warn({}, 'the app ignores SIGTERM: killed');
  await app.ended;
}
