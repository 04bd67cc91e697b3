/** How many worlds a property test tries, and with which seed. */

export interface Runs {
  readonly numRuns: number;
  readonly seed?: number;
}

/** CI always tries the same worlds. */
const CI_SEED = 1;

/** Outside CI the seed is random. `PROPERTY_SEED` sets it, and `PROPERTY_TIMES` multiplies the number of runs. */
export function runsOf(count: number): Runs {
  const { CI, PROPERTY_SEED: seed = CI === 'true' ? CI_SEED : undefined } = process.env;
  const numRuns = count * Number(process.env.PROPERTY_TIMES ?? 1);
  return seed === undefined ? { numRuns } : { numRuns, seed: Number(seed) };
}
