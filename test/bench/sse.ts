/** Memory of an idle event stream: what many of them, open at once, add to a fresh process. */
import { fileURLToPath } from 'node:url';
import { STREAM_PATH } from './answers.ts';
import type { Bench, Stage } from './bench.ts';
import { openSessions, withCandidates, type Candidate, type CandidateName } from './candidates.ts';
import { median } from './median.ts';
import { ratioOf, type Measurement } from './result.ts';

const NAMES: readonly CandidateName[] = ['floor', 'http-proxy', 'sidecar'];
const BYTES_PER_KB = 1_000;
/** Part of the streams that is opened and closed beforehand, so that what happens once has happened. */
const WARM_UP_SHARE = 0.1;
const MEMORY_PROBE = fileURLToPath(new URL('processes/memory.ts', import.meta.url));

export const benchStreams: Bench = async (stage) => {
  const rounds = new Map<CandidateName, number[]>(NAMES.map((name) => [name, []]));
  for (let round = 0; round < stage.effort.streamRounds; round += 1) {
    for (const name of NAMES) rounds.get(name)?.push(await kilobytesPerStream(stage, name));
  }
  const measurements: Measurement[] = NAMES.map((candidate) => ({
    candidate,
    value: median(rounds.get(candidate) ?? []),
    cpuMicros: undefined,
  }));
  return {
    title: `Memory of an idle event stream, ${stage.effort.streams} open`,
    unit: 'KB',
    perUnit: 'stream',
    measurements,
    ratios: [ratioOf(measurements, 'sidecar', 'http-proxy', { atMost: 0.8 })],
  };
};

function kilobytesPerStream(stage: Stage, name: CandidateName): Promise<number> {
  const { effort, load, workspace } = stage;
  const nodeOptions = ['--expose-gc', '--import', MEMORY_PROBE];
  return withCandidates([name], { workspace, nodeOptions }, async ([candidate]) => {
    if (!candidate) throw new Error('no candidate');
    const job = { port: candidate.port, path: STREAM_PATH };
    const sessionIds = await openSessions(candidate, effort.streams);
    await load.openStreams({
      ...job,
      sessionIds: sessionIds.slice(0, Math.ceil(effort.streams * WARM_UP_SHARE)),
    });
    await load.closeStreams();
    const bytesBefore = await memoryOf(candidate);
    await load.openStreams({ ...job, sessionIds });
    const bytesAfter = await memoryOf(candidate);
    await load.closeStreams();
    return (bytesAfter - bytesBefore) / effort.streams / BYTES_PER_KB;
  });
}

/** Resident set in bytes, once garbage is collected. */
async function memoryOf({ process }: Candidate): Promise<number> {
  const answered = process.nextMessage();
  process.child.send('memory');
  const { rssBytes } = (await answered) as { rssBytes: number };
  return rssBytes;
}
