/** Candidates that take turns: A B C A B C, so that their figures can be compared. */
import type { Candidate } from './candidates.ts';
import type { Effort } from './effort.ts';
import type { MessagesJob, RequestsJob, Tally, TurnJob } from './job.ts';
import type { Load } from './load.ts';
import { median } from './median.ts';
import type { Measurement } from './result.ts';

/** A candidate's turns, in order. */
export interface Turns<Name extends string = string> {
  readonly name: Name;
  readonly tallies: readonly Tally[];
}

/** The job of one candidate, without its target and duration. */
export type Requests = Unplaced<RequestsJob>;
export type Messages = Unplaced<MessagesJob>;

type Unplaced<Job extends TurnJob> = Omit<Job, 'port' | 'pid' | 'warmUpMs' | 'turnMs'>;

export async function takeTurns<Name extends string>(
  candidates: readonly Candidate<Name>[],
  workFor: (candidate: Candidate<Name>) => Promise<Requests | Messages>,
  load: Load,
  effort: Pick<Effort, 'rounds' | 'turnMs' | 'warmUpMs' | 'firstWarmUpMs'>,
): Promise<Turns<Name>[]> {
  const players = [];
  for (const candidate of candidates) {
    const work = await workFor(candidate);
    players.push({ candidate, work, tallies: [] as Tally[] });
  }
  for (let round = 0; round < effort.rounds; round += 1) {
    const warmUpMs = round === 0 ? effort.firstWarmUpMs : effort.warmUpMs;
    for (const { candidate, work, tallies } of players) {
      const { port, process } = candidate;
      const job = { ...work, port, pid: process.pid, warmUpMs, turnMs: effort.turnMs };
      tallies.push(await load.measure(job));
    }
  }
  return players.map(({ candidate, tallies }) => ({ name: candidate.name, tallies }));
}

/** The median of `valueOf` over the turns. */
export function measurementOf(
  { name, tallies }: Turns,
  valueOf: (tally: Tally) => number,
  unitsOf: (tally: Tally) => number,
): Measurement {
  const turns = tallies.map(valueOf);
  const timed = tallies.flatMap(({ cpuMicros, ...tally }) =>
    cpuMicros === undefined ? [] : [{ ...tally, cpuMicros }],
  );
  const measurement = { candidate: name, value: median(turns), turns };
  if (timed.length === 0) return { ...measurement, cpuMicros: undefined };
  return {
    ...measurement,
    cpuMicros: median(timed.map((tally) => tally.cpuMicros / unitsOf(tally))),
    coreShare: median(timed.map(({ cpuMicros, seconds }) => cpuMicros / seconds / 1_000_000)),
  };
}

/** By requests a second, or messages. */
export function requestsPerSecond(turns: Turns): Measurement {
  return measurementOf(
    turns,
    ({ requests, seconds }) => requests / seconds,
    ({ requests }) => requests,
  );
}
