/** How many worlds a property is tried in. */
import '../../support/property-seed.ts';

export interface Runs {
  readonly numRuns: number;
}

/** `PROPERTY_TIMES` says how many times as many. */
export function runsOf(count: number): Runs {
  return { numRuns: count * Number(process.env.PROPERTY_TIMES ?? 1) };
}
