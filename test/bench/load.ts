/** The load generator as the benches see it. */
import { fileURLToPath } from 'node:url';
import type { Job, JobAnswer, RequestsJob, StreamsJob, Tally } from './job.ts';
import { startPinned } from './pinned.ts';

export interface Load {
  /** Rejects if one answer was not as expected. */
  measure(job: Omit<RequestsJob, 'kind'>): Promise<Tally>;
  openStreams(job: Omit<StreamsJob, 'kind'>): Promise<void>;
  closeStreams(): Promise<void>;
  stop(): Promise<void>;
}

export function startLoad(): Load {
  const script = fileURLToPath(new URL('processes/load.ts', import.meta.url));
  const process = startPinned({ core: 'load', command: [script] });

  async function perform(job: Job): Promise<Tally | undefined> {
    const answered = process.nextMessage();
    process.child.send(job);
    const answer = (await answered) as JobAnswer;
    if ('failure' in answer) throw new Error(answer.failure);
    return answer.tally;
  }

  return {
    measure: async (job) => {
      const tally = await perform({ kind: 'requests', ...job });
      if (!tally) throw new Error('the load generator has counted nothing');
      return tally;
    },
    openStreams: async (job) => {
      await perform({ kind: 'open-streams', ...job });
    },
    closeStreams: async () => {
      await perform({ kind: 'close-streams' });
    },
    stop: () => process.stop(),
  };
}
