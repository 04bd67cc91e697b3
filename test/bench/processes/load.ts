/** The load generator: does one job after the other, as its messages say. */
import type { Job, JobAnswer } from '../job.ts';
import { measureRequests } from '../load/requests.ts';
import { createStreams } from '../load/streams.ts';
import type { Tally } from '../job.ts';

const streams = createStreams();

process.on('message', (job: Job) => {
  void answer(job).then((result) => process.send?.(result));
});
process.on('disconnect', () => process.exit());

async function answer(job: Job): Promise<JobAnswer> {
  try {
    return { tally: await perform(job) };
  } catch (error) {
    return { failure: error instanceof Error ? error.message : String(error) };
  }
}

async function perform(job: Job): Promise<Tally | undefined> {
  switch (job.kind) {
    case 'requests':
      return measureRequests(job);
    case 'open-streams':
      await streams.open(job);
      return undefined;
    case 'close-streams':
      await streams.close();
      return undefined;
  }
}
