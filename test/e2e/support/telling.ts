/** Has a story told in a thread of its own. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Telling } from '../stories/tell.ts';

/** Rejects with what went wrong in the first telling that failed; the others are broken off then. */
export async function tell(telling: Telling): Promise<void> {
  const worker = new Worker(new URL('../stories/tell.ts', import.meta.url), {
    workerData: telling,
    execArgv: [],
  });
  try {
    await once(worker, 'message');
  } finally {
    await worker.terminate();
  }
}
