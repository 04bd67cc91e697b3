/** Runs a scenario in its own thread. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { ScenarioRun } from '../scenarios/main.ts';

/** Rejects with the first failure; the other runs are aborted then. */
export async function runScenario(run: ScenarioRun): Promise<void> {
  const worker = new Worker(new URL('../scenarios/main.ts', import.meta.url), {
    workerData: run,
    execArgv: [],
  });
  try {
    await once(worker, 'message');
  } finally {
    await worker.terminate();
  }
}
