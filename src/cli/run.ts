/**
 * `fly-affinity run -- CMD ARGS`: the sidecar, and the app as its child.
 *
 *   app started --its port answers--> serving --1st signal--> draining --drained--> signal to the app
 *        |                               |                        |                      |
 *        |                               |                        +--2nd signal--> that to the app
 *        +--------- app ends ------------+------------------------+----------------------+--> ended
 */
import { portOf } from '../setting-checks.ts';
import { stopSidecar, type Sidecar, type Signals } from '../lifecycle.ts';
import { startApp, type AppProcess } from './app-process.ts';
import { awaitPort } from '../await-port.ts';
import {
  runSidecarProcess,
  type SidecarProcess,
  type StartSidecar,
  type Surroundings,
} from './sidecar-process.ts';

/** Resolves to the app's exit code. */
export function run(
  surroundings: Surroundings,
  startSidecar: StartSidecar,
  command: readonly string[],
): Promise<number> {
  return runSidecarProcess(surroundings, startSidecar, async (own) => {
    // PORT is ours: the app would take it away from us.
    const port = String(portOf(own.config.upstreamUrl));
    const app = await startApp(command, { ...surroundings.env, PORT: port });
    const endApp = (): void => app.signal('SIGTERM');
    // However we end, the app must not be left behind: it has a process group of its own.
    surroundings.events.on('exit', endApp);
    own.logger.info({ port }, 'app started');
    try {
      return await superviseApp(app, own, surroundings);
    } finally {
      endApp();
      await app.ended;
      surroundings.events.off('exit', endApp);
    }
  });
}

async function superviseApp(
  app: AppProcess,
  own: SidecarProcess,
  surroundings: Surroundings,
): Promise<number> {
  const sidecar = await startBeside(app, own, surroundings);
  if (!sidecar) return relaySignals(app, own.signals, 1);
  const code = await superviseBoth(app, sidecar, own);
  await stopSidecar(sidecar, own.logger);
  return code;
}

/** Undefined if the app has ended, or a signal has come, before the app's port answered. */
async function startBeside(
  app: AppProcess,
  own: SidecarProcess,
  surroundings: Surroundings,
): Promise<Sidecar | undefined> {
  try {
    return await own.start(async () => {
      if (!(await isAppServing(app, own, surroundings))) throw new AppDidNotComeUp();
    });
  } catch (error) {
    if (error instanceof AppDidNotComeUp) return undefined;
    throw error;
  }
}

class AppDidNotComeUp extends Error {
  override readonly name = 'AppDidNotComeUp';
}

/** False if the app has ended, or a signal has come, before its port answered. */
async function isAppServing(
  app: AppProcess,
  { config, logger, signals }: SidecarProcess,
  { clock }: Surroundings,
): Promise<boolean> {
  const waiting = new AbortController();
  const giveUp = (): false => {
    waiting.abort();
    return false;
  };
  return Promise.race([
    awaitPort({
      host: config.upstreamUrl.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: portOf(config.upstreamUrl),
      clock,
      signal: waiting.signal,
      onWaiting: (waitedMs) =>
        logger.info({ upstream: config.upstreamUrl.origin, waitedMs }, 'waiting for the app'),
    }),
    app.ended.then(giveUp),
    signals.nth(1).then(giveUp),
  ]);
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
