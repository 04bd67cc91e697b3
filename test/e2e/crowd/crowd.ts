/** A crowd of clients at work while something happens to the Machines. */
import { Worker } from 'node:worker_threads';
import type { Visit } from './guest.ts';
import type { CrowdPlan } from './main.ts';

export interface Crowd {
  /** Resolves once each of them has a session. Rejects if the crowd has failed. */
  arrived(): Promise<void>;
  /** Lets each client have one more answer, and tells of all visits. Rejects if the crowd has failed. */
  end(): Promise<readonly Visit[]>;
  /** At once, whatever is under way. */
  breakOff(): Promise<void>;
}

export function startCrowd(plan: CrowdPlan): Crowd {
  const worker = new Worker(new URL('main.ts', import.meta.url), {
    workerData: plan,
    execArgv: [],
  });
  const told = Promise.withResolvers<readonly Visit[]>();
  const here = Promise.withResolvers<undefined>();
  worker.on('message', (message: 'all are here' | readonly Visit[]) => {
    if (message === 'all are here') here.resolve(undefined);
    else told.resolve(message);
  });
  worker.once('error', (error) => {
    here.reject(error);
    told.reject(error);
  });
  // Whoever waits for one is told; for the other nobody may be waiting yet.
  for (const { promise } of [here, told]) promise.catch(() => undefined);
  return {
    arrived: async () => {
      await here.promise;
    },
    end: async () => {
      worker.postMessage('over');
      try {
        return await told.promise;
      } finally {
        await worker.terminate();
      }
    },
    breakOff: async () => {
      await worker.terminate();
    },
  };
}
