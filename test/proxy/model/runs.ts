/** How many worlds a property is tried in, and which. */

export interface Runs {
  readonly numRuns: number;
  readonly seed?: number;
}

/** The same worlds in every run of CI, where nobody wants to be surprised. */
const CI_SEED = 1;

/** Others each time, elsewhere: `PROPERTY_SEED` names them, and `PROPERTY_TIMES` says how many times as many. */
export function runsOf(count: number): Runs {
  const { CI, PROPERTY_SEED: seed = CI === 'true' ? CI_SEED : undefined } = process.env;
  const numRuns = count * Number(process.env.PROPERTY_TIMES ?? 1);
  return seed === undefined ? { numRuns } : { numRuns, seed: Number(seed) };
}
