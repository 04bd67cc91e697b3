/**
 * The duration of an event loop turn at p99.9, with different loads. The CPU time of its thread in
 * such a turn separates the effect of the store from other processes on the same cores.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench } from './bench.ts';
import { ratioOf, type Ratio, type Target } from './result.ts';
import {
  createCleanUp,
  nothing,
  openBareLoad,
  openBindings,
  openCheckpoint,
  type StoreLoad,
  type Stretch,
} from './store-burdens.ts';
import { measurementOf, type Turn } from './store-turns.ts';

const NEW_SESSIONS_PER_SECOND = 2_000;
const MS_PER_SECOND = 1_000;

export const benchEventLoop: Bench = async (stage) => {
  const { effort } = stage;
  const loads: Readonly<Record<string, StoreLoad>> = {
    idle: nothing,
    'new bindings': await openBindings(stage),
    'and a clean-up': createCleanUp(stage),
    'and a checkpoint': await openCheckpoint(stage),
    'bare on the event loop': await openBareLoad(stage),
  };
  const players = Object.entries(loads).map(([candidate, load]) => ({
    candidate,
    load,
    turns: [] as Turn[],
  }));
  for (let round = 0; round < effort.rounds; round += 1) {
    for (const { load, turns } of players) turns.push(await takeTurn(load, effort.turnMs));
  }
  const measurements = players.map(({ candidate, turns }) => measurementOf(candidate, turns));
  const ratioToIdle = (candidate: string, target?: Target): Ratio => ({
    ...ratioOf(measurements, candidate, 'idle', target),
    byCpu: undefined,
  });
  return {
    title:
      `Turn of the event loop at p99.9, ${NEW_SESSIONS_PER_SECOND} new bindings a second ` +
      `into SQLite with ${effort.sessionsOnDisk} sessions`,
    unit: 'ms',
    perUnit: 'turn',
    measurements,
    ratios: [
      ratioToIdle('new bindings', { atMost: 1.5 }),
      ratioToIdle('and a clean-up', { atMost: 1.5 }),
      ratioToIdle('and a checkpoint', { atMost: 1.5 }),
      ratioToIdle('bare on the event loop'),
    ],
  };
};

/** The turns of the event loop, by wall time and by CPU time of the main thread. */
interface Samples {
  readonly wallMs: number[];
  readonly cpuMicros: number[];
}

/** As many intervals as needed; the duration that one turn in a thousand exceeds. */
async function takeTurn(load: StoreLoad, lengthMs: number): Promise<Turn> {
  const samples: Samples = { wallMs: [], cpuMicros: [] };
  for (let leftMs = lengthMs; leftMs > 0;) {
    const { work = () => sleep(leftMs), use, finish } = await load();
    const startedAt = performance.now();
    await sampleDuring(work, samples, use);
    leftMs -= performance.now() - startedAt;
    await finish?.();
  }
  return { value: percentile999(samples.wallMs), cpuMicros: percentile999(samples.cpuMicros) };
}

/** Rejects if one of the uses has failed by then. */
async function sampleDuring(
  work: () => Promise<unknown>,
  samples: Samples,
  use: Stretch['use'],
): Promise<void> {
  const failures: unknown[] = [];
  const startedAt = performance.now();
  let used = 0;
  let wallBefore = startedAt;
  let cpuBefore = threadCpuMicros();
  const timer = setInterval(() => {
    const wall = performance.now();
    const cpu = threadCpuMicros();
    samples.wallMs.push(wall - wallBefore);
    samples.cpuMicros.push(cpu - cpuBefore);
    wallBefore = wall;
    cpuBefore = cpu;
    // By elapsed time, so that a late turn catches up.
    const due = ((wall - startedAt) * NEW_SESSIONS_PER_SECOND) / MS_PER_SECOND;
    for (; use && used < due; used += 1) use().catch((error: unknown) => failures.push(error));
  }, 1);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  if (failures.length > 0) throw failures[0];
}

function threadCpuMicros(): number {
  const { user, system } = process.threadCpuUsage();
  return user + system;
}

function percentile999(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length * 0.999)] ?? Number.NaN;
}
