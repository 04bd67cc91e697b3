/** What happens to the Machines, and in which order: a function of the seed alone. Pure. */
import { seededRandom } from '../support/seeded-random.ts';

export const FAULT_NAMES = [
  /** Killed with its app at once, and started again. */
  'crash',
  /** Told to end, and started again. */
  'stop',
  'suspend',
  /** Its sidecar ends while the app goes on, and is started again. */
  'no-sidecar',
  /** Its sidecar stands still while the app goes on: who connects to it waits. */
  'silent-sidecar',
  /** No other Machine reaches it, and it reaches none; the edge does. */
  'partition',
  /** The edge does not reach it; the others do. */
  'cut-off',
  /** Everything that comes to it is late. */
  'slow',
  /** Takes no new sessions for a while. */
  'drain',
  /** Destroyed, and another one is made. */
  'replace',
] as const;
export type FaultName = (typeof FAULT_NAMES)[number];

export interface PlannedFault {
  readonly name: FaultName;
  /** The place of the Machine; one that is replaced leaves its place to the new one. */
  readonly place: number;
}

/** Begins all at once, and ends all at once. */
export interface Round {
  readonly faults: readonly PlannedFault[];
  readonly holdMs: number;
  /** With nothing wrong, before the next one. */
  readonly pauseMs: number;
}

/** Nothing here ends a process, so that those of one Machine live through it all. */
const HARMLESS: readonly FaultName[] = [
  ...(['suspend', 'silent-sidecar', 'partition', 'cut-off', 'slow', 'drain'] as const),
];
const SURVIVOR = 0;

const MAX_FAULTS_AT_ONCE = 2;
const MIN_HOLD_MS = 1_000;
const MAX_HOLD_MS = 4_000;
const MAX_PAUSE_MS = 1_000;

/** Never ends. Every name comes once before any comes again. */
export function* planRounds(seed: number, places: number): Generator<Round, never> {
  const random = seededRandom(seed);
  const below = (count: number): number => Math.floor(random() * count);
  let left: FaultName[] = [];

  const takeName = (): FaultName => {
    if (left.length === 0) left = shuffled(FAULT_NAMES, random);
    return left.pop() ?? FAULT_NAMES[0];
  };

  for (;;) {
    const count = 1 + below(MAX_FAULTS_AT_ONCE);
    const free = shuffled([...Array(places).keys()], random);
    const faults: PlannedFault[] = [];
    for (let i = 0; i < count; i += 1) {
      const name = takeName();
      const index = free.findIndex((place) => place !== SURVIVOR || HARMLESS.includes(name));
      const [place = SURVIVOR] = free.splice(index, 1);
      faults.push({ name, place });
    }
    yield {
      faults,
      holdMs: MIN_HOLD_MS + below(MAX_HOLD_MS - MIN_HOLD_MS),
      pauseMs: below(MAX_PAUSE_MS),
    };
  }
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map((item) => ({ item, rank: random() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ item }) => item);
}
