/** The clients of many rooms, in their own thread. */
import { Worker } from 'node:worker_threads';
import type { ClientPlan, Request, Response } from './guests.ts';

export interface Party {
  /** The number of clients per room, which all connect at the same moment. */
  enter(rooms: readonly string[], clients: number): Promise<void>;
  /** Each client makes an edit of this name. */
  edit(rooms: readonly string[], name: string): Promise<void>;
  /** Edits that have not reached a client of their room. */
  missing(rooms: readonly string[], name: string): Promise<readonly string[]>;
  close(): Promise<void>;
}

type Unnumbered<T> = T extends unknown ? Omit<T, 'id'> : never;

/** An error in the thread rejects all pending promises. */
export function startParty(plan: ClientPlan): Party {
  const worker = new Worker(new URL('guests.ts', import.meta.url), {
    workerData: plan,
    execArgv: [],
  });
  const waiting = new Map<number, PromiseWithResolvers<readonly string[]>>();
  let failure: Error | undefined;
  let requests = 0;
  worker.on('message', ({ id, missing }: Response) => {
    waiting.get(id)?.resolve(missing);
    waiting.delete(id);
  });
  worker.once('error', (error: Error) => {
    failure = error;
    for (const { reject } of waiting.values()) reject(error);
  });
  const send = (request: Unnumbered<Request>): Promise<readonly string[]> => {
    if (failure) return Promise.reject(failure);
    const id = (requests += 1);
    const response = Promise.withResolvers<readonly string[]>();
    waiting.set(id, response);
    worker.postMessage({ ...request, id });
    return response.promise;
  };
  return {
    enter: async (rooms, clients) => {
      await send({ kind: 'enter', rooms, clients });
    },
    edit: async (rooms, name) => {
      await send({ kind: 'edit', rooms, name });
    },
    missing: (rooms, name) => send({ kind: 'missing', rooms, name }),
    close: async () => {
      await worker.terminate();
    },
  };
}
