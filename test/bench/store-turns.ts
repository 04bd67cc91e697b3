/** Candidates of this process that take turns: A B C A B C, so that their figures can be compared. */
import { median } from './median.ts';
import type { Measurement } from './result.ts';

/** One turn: the figure, and the CPU time of one unit of it in µs where that is meaningful. */
export type Turn = number | { readonly value: number; readonly cpuMicros: number };

/** The first turn of each warms it up and does not count. */
export async function takeTurns(
  candidates: Readonly<Record<string, () => Turn | Promise<Turn>>>,
  rounds: number,
): Promise<Measurement[]> {
  const players = Object.entries(candidates).map(([candidate, play]) => ({
    candidate,
    play,
    turns: [] as Turn[],
  }));
  for (let round = 0; round <= rounds; round += 1) {
    for (const { play, turns } of players) {
      const turn = await play();
      if (round > 0) turns.push(turn);
    }
  }
  return players.map(({ candidate, turns }) => measurementOf(candidate, turns));
}

export function measurementOf(candidate: string, turns: readonly Turn[]): Measurement {
  const values = turns.map((turn) => (typeof turn === 'number' ? turn : turn.value));
  const cpus = turns.flatMap((turn) => (typeof turn === 'number' ? [] : [turn.cpuMicros]));
  return {
    candidate,
    value: median(values),
    cpuMicros: cpus.length > 0 ? median(cpus) : undefined,
  };
}
