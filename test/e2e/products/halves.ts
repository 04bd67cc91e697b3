/** Clients whose halves, before and after the restart, are whole runs or those of several clients. */
import type { Target } from '../support/target.ts';
import type { ClientRun } from './product.ts';

/**
 * For sessions that live in one stream or socket, which ends with the sidecar in front of it: the
 * whole scenario before the restart, and once more, in new sessions, after it.
 */
export function twice(runScenario: (target: Target) => Promise<void>): ClientRun {
  return async (target, midway) => {
    await runScenario(target);
    await midway();
    await runScenario(target);
  };
}

/** They all wait for the restart. */
export function together(...runs: readonly ClientRun[]): ClientRun {
  return async (target, midway) => {
    const restarted = Promise.withResolvers<unknown>();
    let running = runs.length;
    const arrive = async (): Promise<void> => {
      running -= 1;
      if (running === 0) restarted.resolve(midway());
      await restarted.promise;
    };
    await Promise.all(runs.map((run) => run(target, arrive)));
  };
}
