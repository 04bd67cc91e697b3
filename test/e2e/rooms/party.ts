/** The clients of many rooms, in a thread of their own. */
import { Worker } from 'node:worker_threads';
import type { GuestPlan, Request, Response } from './guests.ts';

export interface Party {
  /** So many clients for each room, which all connect in the same moment. */
  enter(rooms: readonly string[], clients: number): Promise<void>;
  /** Each client makes an edit of this name. */
  edit(rooms: readonly string[], name: string): Promise<void>;
  /** Which of these edits have not come to which client of their room. */
  missing(rooms: readonly string[], name: string): Promise<readonly string[]>;
  close(): Promise<void>;
}

type Unnumbered<T> = T extends unknown ? Omit<T, 'id'> : never;

/** What goes wrong in the thread rejects whatever is under way. */
export function startParty(plan: GuestPlan): Party {
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
  const ask = (request: Unnumbered<Request>): Promise<readonly string[]> => {
    if (failure) return Promise.reject(failure);
    const id = (requests += 1);
    const answer = Promise.withResolvers<readonly string[]>();
    waiting.set(id, answer);
    worker.postMessage({ ...request, id });
    return answer.promise;
  };
  return {
    enter: async (rooms, clients) => {
      await ask({ kind: 'enter', rooms, clients });
    },
    edit: async (rooms, name) => {
      await ask({ kind: 'edit', rooms, name });
    },
    missing: (rooms, name) => ask({ kind: 'missing', rooms, name }),
    close: async () => {
      await worker.terminate();
    },
  };
}
