/** The faults of the Machines, and their order: a function of the seed alone. Pure. */
import { seededRandom } from '../support/seeded-random.ts';

export const FAULT_NAMES = [
  /** Killed together with its app, and started again. */
  'crash',
  /** Stopped, and started again. */
  'stop',
  'suspend',
  /** Its sidecar ends while the app keeps running, and is started again. */
  'no-sidecar',
  /** Its sidecar is frozen while the app keeps running: connections to it wait. */
  'silent-sidecar',
  /** Isolated from all other Machines, but not from the edge. */
  'partition',
  /** Unreachable for the edge, but not for other Machines. */
  'cut-off',
  /** All traffic to it is delayed. */
  'slow',
  /** Accepts no new sessions for a while. */
  'drain',
  /** Destroyed, and replaced by another one. */
  'replace',
] as const;
export type FaultName = (typeof FAULT_NAMES)[number];

interface PlannedFault {
  readonly name: FaultName;
  /** The place of the Machine; a replacement takes over the place of its predecessor. */
  readonly place: number;
}

/** All begin together, and all end together. */
export interface Round {
  readonly faults: readonly PlannedFault[];
  readonly holdMs: number;
  /** Time without a fault, before the next one. */
  readonly pauseMs: number;
}

/** No fault here ends a process, so the processes of one Machine run the whole time. */
const HARMLESS: readonly FaultName[] = [
  ...(['suspend', 'silent-sidecar', 'partition', 'cut-off', 'slow', 'drain'] as const),
];
const SURVIVOR = 0;

const MAX_FAULTS_AT_ONCE = 2;
const MIN_HOLD_MS = 1_000;
const MAX_HOLD_MS = 4_000;
const MAX_PAUSE_MS = 1_000;

/** Infinite. Every name occurs once before any occurs again. */
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
