/** Many clients that work while the Machines have faults. */
import { Worker } from 'node:worker_threads';
import type { Visit } from './guest.ts';
import type { CrowdPlan } from './main.ts';

export interface Crowd {
  /** Resolves once each client has a session. Rejects if the crowd has failed. */
  arrived(): Promise<void>;
  /**
   * Lets each client get one more response, and resolves with all visits. Rejects if the crowd has
   * failed.
   */
  end(): Promise<readonly Visit[]>;
  /** Immediately, whatever is in progress. */
  breakOff(): Promise<void>;
}

export function startCrowd(plan: CrowdPlan): Crowd {
  const worker = new Worker(new URL('main.ts', import.meta.url), {
    workerData: plan,
    execArgv: [],
  });
  const visits = Promise.withResolvers<readonly Visit[]>();
  const here = Promise.withResolvers<undefined>();
  worker.on('message', (message: 'all are here' | readonly Visit[]) => {
    if (message === 'all are here') here.resolve(undefined);
    else visits.resolve(message);
  });
  worker.once('error', (error) => {
    here.reject(error);
    visits.reject(error);
  });
  // The promise that is awaited rejects; the other may have no handler yet.
  for (const { promise } of [here, visits]) promise.catch(() => undefined);
  return {
    arrived: async () => {
      await here.promise;
    },
    end: async () => {
      worker.postMessage('over');
      try {
        return await visits.promise;
      } finally {
        await worker.terminate();
      }
    },
    breakOff: async () => {
      await worker.terminate();
    },
  };
}
