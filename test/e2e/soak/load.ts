/** Workers that run one step after the other until the load ends. */
import { systemClock } from '../../../src/clock.ts';
import { createChance, type Chance } from './chance.ts';
import { Failure, Left } from './failure.ts';
import { KINDS, type Kind, type KindName } from './kinds/kinds.ts';
import { Step, type Surroundings } from './step.ts';
import type { Tally } from './tally.ts';

interface LoadOptions {
  /** The number of this load within a run. */
  readonly name: string;
  readonly seed: number;
  readonly kinds: readonly KindName[];
  readonly around: Surroundings;
  readonly tally: Tally;
  readonly isOver: AbortSignal;
}

/** The number of concurrent workers; those with brief steps pause between them, in ms. */
const WORKERS = { brief: 12, long: 20 } as const;
const MAX_PAUSE_MS = { brief: 100, long: 1_000 } as const;
/** The same position of another load makes other random choices. */
const STAY_NUMBERS = { brief: 1, long: 2 } as const;

/** Resolves once it has ended and every step has finished. */
export async function runLoad(options: LoadOptions): Promise<void> {
  const workers = (['brief', 'long'] as const).flatMap((stay) => {
    const names = options.kinds.filter((name) => KINDS[name].stay === stay);
    if (names.length === 0) return [];
    return Array.from({ length: WORKERS[stay] }, (_, number) => work(options, stay, names, number));
  });
  await Promise.all(workers);
}

async function work(
  { name, seed, around, tally, isOver }: LoadOptions,
  stay: Kind['stay'],
  names: readonly KindName[],
  worker: number,
): Promise<void> {
  for (let number = 0; !isOver.aborted; number += 1) {
    const chance = createChance(seed, STAY_NUMBERS[stay], worker, number);
    const kind = pickKind(names, chance);
    const pauseMs = chance.integer(0, MAX_PAUSE_MS[stay]);
    const step = new Step(`${name} ${stay} ${worker} ${number}`, chance, isOver, around);
    await perform(kind, step, tally);
    await systemClock.sleep(pauseMs, isOver);
  }
}

async function perform(kind: KindName, step: Step, tally: Tally): Promise<void> {
  try {
    await KINDS[kind].run(step);
    tally.ended(kind, step, 'ok');
  } catch (error) {
    if (error instanceof Left) tally.ended(kind, step, 'ok');
    else tally.failed(kind, step, error, error instanceof Failure && step.isExplained(error));
  }
}

function pickKind(names: readonly KindName[], chance: Chance): KindName {
  const total = names.reduce((sum, name) => sum + KINDS[name].weight, 0);
  let left = chance.integer(1, total);
  for (const name of names) {
    left -= KINDS[name].weight;
    if (left <= 0) return name;
  }
  throw new Error('no kind of load');
}
