/**
 * Waits, after a load, until everything is closed, and reports what is still open after the
 * timeout.
 */
import { systemClock } from '../../../../src/clock.ts';
import type { Stage } from '../stage.ts';
import { readMetrics } from './admin.ts';
import { readDescriptors } from './descriptors.ts';

const CHECK_INTERVAL_MS = 500;
const TIMEOUT_MS = 60_000;

/** Resolves with what is still open: nothing, if the check passes. */
export async function untilQuiet(stage: Stage): Promise<readonly string[]> {
  const deadline = systemClock.monotonicMs() + TIMEOUT_MS;
  for (;;) {
    const left = await whatIsLeft(stage);
    if (left.length === 0 || systemClock.monotonicMs() > deadline) return left;
    await systemClock.sleep(CHECK_INTERVAL_MS);
  }
}

async function whatIsLeft(stage: Stage): Promise<readonly string[]> {
  const ofApps = stage.apps.map(async (app) => {
    const { requests, webSockets } = await app.open();
    return counted(`app of ${app.name}`, { requests, webSockets });
  });
  const ofSidecars = stage.sidecars.map(async ({ name, pid, ports, ending }) => {
    if (ending !== undefined) return [];
    // It may have ended just now, which another check reports.
    const metrics = await readMetrics(ports.admin).catch(() => undefined);
    if (!metrics) return [`${name}: no metrics`];
    const descriptors = await readDescriptors(pid, stage.portsOf(name));
    return counted(name, {
      ...Object.fromEntries(metrics.open()),
      'sessions bound': metrics.sum('fly_affinity_sessions'),
      'sessions expired': metrics.sum('fly_affinity_sessions_expired'),
      'connections of clients': descriptors?.get('client') ?? 0,
      'connections to the app': descriptors?.get('app') ?? 0,
    });
  });
  return (await Promise.all([...ofApps, ...ofSidecars])).flat();
}

function counted(where: string, counts: Readonly<Record<string, number>>): readonly string[] {
  return Object.entries(counts)
    .filter(([, count]) => count !== 0)
    .map(([what, count]) => `${where}: ${count} ${what}`);
}
