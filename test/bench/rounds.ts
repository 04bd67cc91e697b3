/** Candidates that take turns: A B C A B C, so that their figures can be compared. */
import type { Candidate, CandidateName } from './candidates.ts';
import type { Effort } from './effort.ts';
import type { RequestsJob, Tally } from './job.ts';
import type { Load } from './load.ts';
import { median } from './median.ts';
import type { Measurement } from './result.ts';

/** A candidate's turns, in order. */
export interface Turns {
  readonly name: CandidateName;
  readonly tallies: readonly Tally[];
}

/** What one candidate is sent, but for where and how long. */
export type Requests = Omit<RequestsJob, 'kind' | 'port' | 'pid' | 'warmUpMs' | 'turnMs'>;

export async function takeTurns(
  candidates: readonly Candidate[],
  requestsFor: (candidate: Candidate) => Promise<Requests>,
  load: Load,
  effort: Effort,
): Promise<Turns[]> {
  const players = [];
  for (const candidate of candidates) {
    const requests = await requestsFor(candidate);
    players.push({ candidate, requests, tallies: [] as Tally[] });
  }
  for (let round = 0; round < effort.rounds; round += 1) {
    const warmUpMs = round === 0 ? effort.firstWarmUpMs : effort.warmUpMs;
    for (const { candidate, requests, tallies } of players) {
      const { port, process } = candidate;
      const job = { ...requests, port, pid: process.pid, warmUpMs, turnMs: effort.turnMs };
      tallies.push(await load.measure(job));
    }
  }
  return players.map(({ candidate, tallies }) => ({ name: candidate.name, tallies }));
}

/** The median of what `valueOf` makes of each turn. */
export function measurementOf(
  { name, tallies }: Turns,
  valueOf: (tally: Tally) => number,
  unitsOf: (tally: Tally) => number,
): Measurement {
  const cpu = tallies.flatMap((tally) =>
    tally.cpuMicros === undefined ? [] : [tally.cpuMicros / unitsOf(tally)],
  );
  return {
    candidate: name,
    value: median(tallies.map(valueOf)),
    cpuMicros: cpu.length > 0 ? median(cpu) : undefined,
  };
}
