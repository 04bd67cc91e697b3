/** The load generator: runs one job after the other, as its messages request. */
import type { Job, JobResult, Tally } from '../job.ts';
import { createHeldConnections } from '../load/held.ts';
import { measureMessages } from '../load/messages.ts';
import { measureRequests } from '../load/requests.ts';

const held = createHeldConnections();

process.on('message', (job: Job) => {
  void result(job).then((result) => process.send?.(result));
});
process.on('disconnect', () => process.exit());

async function result(job: Job): Promise<JobResult> {
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
    case 'messages':
      return measureMessages(job);
    case 'hold':
      await held.hold(job);
      return undefined;
    case 'check-held':
      held.check();
      return undefined;
    case 'release':
      await held.release();
      return undefined;
  }
}
