/** Kills one of the apps at random times, and starts it again. */
import { systemClock } from '../../../src/clock.ts';
import type { AppProcess } from './app-process.ts';
import type { Chance } from './chance.ts';
import type { Outages } from './outages.ts';

/** Between two kills, in ms. */
const MIN_PAUSE_MS = 20_000;
const MAX_PAUSE_MS = 40_000;
/** In a short run: at most this fraction of it. */
const MAX_SHARE = 0.4;
/** How long the app's port has no listener, in ms; the start takes additional time. */
const MIN_DOWN_MS = 100;
const MAX_DOWN_MS = 2_000;

interface RestartOptions {
  readonly apps: readonly AppProcess[];
  readonly chance: Chance;
  readonly outages: Outages;
  /** Length of the load, in ms. */
  readonly loadMs: number;
  readonly isOver: AbortSignal;
}

/** Resolves once it has ended and all apps run. */
export async function restartNowAndThen(options: RestartOptions): Promise<void> {
  const { apps, chance, outages, loadMs, isOver } = options;
  for (;;) {
    const pauseMs = chance.integer(MIN_PAUSE_MS, MAX_PAUSE_MS);
    await systemClock.sleep(Math.min(pauseMs, loadMs * MAX_SHARE), isOver);
    if (isOver.aborted) return;
    const app = chance.pick(apps);
    const end = outages.begin(app.name);
    await app.kill();
    await systemClock.sleep(chance.integer(MIN_DOWN_MS, MAX_DOWN_MS));
    await app.start();
    end();
  }
}
