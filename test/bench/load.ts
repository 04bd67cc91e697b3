/** The load generator's interface for the benches. */
import { fileURLToPath } from 'node:url';
import type { HoldJob, Job, JobResult, MessagesJob, RequestsJob, Tally } from './job.ts';
import { startPinned } from './pinned.ts';

export interface Load {
  /** Rejects if one response was not as expected. */
  measure(job: RequestsJob | MessagesJob): Promise<Tally>;
  /** Opens connections and keeps them, in addition to those that are already open. */
  hold(job: Omit<HoldJob, 'kind'>): Promise<void>;
  /** Rejects if the candidate has closed one of them. */
  checkHeld(): Promise<void>;
  /** Closes them all. */
  release(): Promise<void>;
  stop(): Promise<void>;
}

export function startLoad(): Load {
  const script = fileURLToPath(new URL('processes/load.ts', import.meta.url));
  const process = startPinned({ core: 'load', command: [script] });

  async function perform(job: Job): Promise<Tally | undefined> {
    const message = process.nextMessage();
    process.child.send(job);
    const result = (await message) as JobResult;
    if ('failure' in result) throw new Error(result.failure);
    return result.tally;
  }

  return {
    measure: async (job) => {
      const tally = await perform(job);
      if (!tally) throw new Error('the load generator has counted nothing');
      return tally;
    },
    hold: async (job) => {
      await perform({ kind: 'hold', ...job });
    },
    checkHeld: async () => {
      await perform({ kind: 'check-held' });
    },
    release: async () => {
      await perform({ kind: 'release' });
    },
    stop: () => process.stop(),
  };
}
