/** One candidate's turn: busy connections, counted for a while after a warm-up. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Tally, TurnJob } from '../job.ts';
import { cpuMicrosOf } from './cpu.ts';

/** Shared by the connections of one turn. */
export interface Counts {
  requests: number;
  bytes: number;
  latenciesMicros: number[];
}

export interface Connection {
  close(): void;
}

/** Opens one connection, the `index`-th, which counts its own work and reports its failure. */
type OpenConnection = (index: number, counts: Counts, fail: (error: Error) => void) => Connection;

export async function measureTurn(job: TurnJob, open: OpenConnection): Promise<Tally> {
  const counts: Counts = { requests: 0, bytes: 0, latenciesMicros: [] };
  const failed = Promise.withResolvers<never>();
  const connections = Array.from({ length: job.connections }, (_, index) =>
    open(index, counts, failed.reject),
  );
  try {
    await Promise.race([failed.promise, sleep(job.warmUpMs)]);
    return await count(job, counts, failed.promise);
  } finally {
    for (const connection of connections) connection.close();
  }
}

async function count(job: TurnJob, counts: Counts, failed: Promise<never>): Promise<Tally> {
  counts.requests = 0;
  counts.bytes = 0;
  counts.latenciesMicros = [];
  const cpuBefore = cpuMicrosOf(job.pid);
  const startedAt = performance.now();
  await Promise.race([failed, sleep(job.turnMs)]);
  const seconds = (performance.now() - startedAt) / 1_000;
  const cpuAfter = cpuMicrosOf(job.pid);
  const { requests, bytes, latenciesMicros } = counts;
  if (bytes === 0) throw new Error('nothing arrived in time');
  const latencies = Float64Array.from(latenciesMicros).sort();
  return {
    requests,
    bytes,
    seconds,
    medianLatencyMicros: percentile(latencies, 0.5),
    p99LatencyMicros: percentile(latencies, 0.99),
    cpuMicros: cpuBefore === undefined || cpuAfter === undefined ? undefined : cpuAfter - cpuBefore,
  };
}

/** NaN of an empty list. */
function percentile(sorted: Float64Array, share: number): number {
  return sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
}
