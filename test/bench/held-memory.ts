/**
 * Memory per idle connection: the growth of a process by many connections when it already has some.
 */
import { fileURLToPath } from 'node:url';
import { FIRST_EVENT, SMALL_BODY, SMALL_PATH, STREAM_PATH } from './answers.ts';
import type { Bench, Stage } from './bench.ts';
import { installed, openSessions, withCandidates, type CandidateName } from './candidates.ts';
import { median } from './median.ts';
import { residentBytes } from './resident.ts';
import { figureOf, ratiosTo, type BenchResult, type Measurement } from './result.ts';
import { TARGETS } from './targets.ts';

/** What is kept open. */
interface Held {
  readonly connections: number;
  readonly path: string;
  readonly expects: string;
}

const NAMES: readonly CandidateName[] = ['floor', 'http-proxy', 'nginx', 'sidecar'];
const BYTES_PER_KB = 1_000;
const MEMORY_PROBE = fileURLToPath(new URL('processes/memory.ts', import.meta.url));
/** V8's default young generation of up to 16 MB grows and shrinks by more than what is measured. */
const NODE_OPTIONS = ['--expose-gc', '--max-semi-space-size=1', '--import', MEMORY_PROBE];

/** Each stream has received one event. */
export const benchStreams: Bench = async (stage) => {
  const { streams: connections, heldBefore } = stage.effort;
  const held = { connections, path: STREAM_PATH, expects: FIRST_EVENT };
  return {
    title: `Memory of an idle event stream: ${connections} on top of ${heldBefore}`,
    perUnit: 'stream',
    ...(await measureMemory(stage, held, TARGETS.kilobytesPerStream)),
  };
};

/** Each connection was used for one request. */
export const benchConnections: Bench = async (stage) => {
  const { idleConnections: connections, heldBefore } = stage.effort;
  const held = { connections, path: SMALL_PATH, expects: SMALL_BODY };
  return {
    title: `Memory of an idle keep-alive connection: ${connections} on top of ${heldBefore}`,
    perUnit: 'connection',
    ...(await measureMemory(stage, held, TARGETS.kilobytesPerConnection)),
  };
};

async function measureMemory(
  stage: Stage,
  held: Held,
  target: { readonly atMost: number },
): Promise<Pick<BenchResult, 'unit' | 'measurements' | 'ratios'>> {
  const names = installed(NAMES);
  const rounds = new Map<CandidateName, number[]>(names.map((name) => [name, []]));
  for (let round = 0; round < stage.effort.memoryRounds; round += 1) {
    for (const name of names)
      rounds.get(name)?.push(await kilobytesPerConnection(stage, name, held));
  }
  const measurements = [...rounds].map(([candidate, turns]): Measurement => {
    return { candidate, value: median(turns), turns, cpuMicros: undefined };
  });
  return {
    unit: 'KB',
    measurements,
    ratios: [
      figureOf(measurements, 'sidecar', 'KB of the sidecar', target),
      ...ratiosTo(measurements, 'sidecar', { nginx: undefined, 'http-proxy': undefined }),
    ],
  };
}

function kilobytesPerConnection(
  { effort, load, workspace }: Stage,
  name: CandidateName,
  { connections, path, expects }: Held,
): Promise<number> {
  const surroundings = { workspace, nodeOptions: NODE_OPTIONS };
  return withCandidates([name], surroundings, async ([candidate]) => {
    if (!candidate) throw new Error('no candidate');
    // Few sessions: opening many leaves free memory behind, which the connections would use.
    const ids = await openSessions(candidate, effort.connections);
    let next = 0;
    const hold = (count: number): Promise<void> => {
      const sessionIds = Array.from({ length: count }, () => ids[next++ % ids.length] ?? '');
      return load.hold({ port: candidate.port, path, expects, sessionIds });
    };
    try {
      // The first connections cost more: V8 compiles code for them and grows the heap.
      await hold(effort.heldBefore);
      const bytesBefore = await residentBytes(candidate);
      await hold(connections);
      const bytesAfter = await residentBytes(candidate);
      await load.checkHeld();
      return (bytesAfter - bytesBefore) / connections / BYTES_PER_KB;
    } finally {
      await load.release();
    }
  });
}
