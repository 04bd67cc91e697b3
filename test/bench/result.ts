/** What a bench has found, as the table shows it. */

/** One candidate's figure: the median of its turns. */
export interface Measurement {
  readonly candidate: string;
  readonly value: number;
  /** CPU time in µs of the candidate's process per `perUnit`, where the system tells: less noisy than `value`. */
  readonly cpuMicros: number | undefined;
}

/** One figure over another, and what the project has set itself. */
export interface Ratio {
  readonly name: string;
  readonly value: number;
  /** The same by CPU time, where each candidate has a core for itself and is bound by it: no noise of others. */
  readonly byCpu: number | undefined;
  /** Undefined: for information. */
  readonly target: Target | undefined;
}

export type Target = { readonly atLeast: number } | { readonly atMost: number };

export interface BenchResult {
  readonly title: string;
  /** Of the measurements, such as `requests/s`. */
  readonly unit: string;
  /** What CPU time is counted by, such as `request`. */
  readonly perUnit: string;
  readonly measurements: readonly Measurement[];
  readonly ratios: readonly Ratio[];
}

export function isMet({ value, target }: Ratio): boolean | undefined {
  if (!target) return undefined;
  return 'atLeast' in target ? value >= target.atLeast : value <= target.atMost;
}

/** The ratio of two candidates' values; NaN if one was not measured. */
export function ratioOf(
  measurements: readonly Measurement[],
  over: string,
  under: string,
  target?: Target,
): Ratio {
  const upper = measurements.find(({ candidate }) => candidate === over);
  const lower = measurements.find(({ candidate }) => candidate === under);
  return {
    name: `${over} / ${under}`,
    value: (upper?.value ?? Number.NaN) / (lower?.value ?? Number.NaN),
    // Less time for the same is more.
    byCpu: lower?.cpuMicros && upper?.cpuMicros ? lower.cpuMicros / upper.cpuMicros : undefined,
    target,
  };
}

/** The same where the values are costs: more time for the same is more. */
export function costRatioOf(
  measurements: readonly Measurement[],
  over: string,
  under: string,
  target?: Target,
): Ratio {
  const { value, byCpu, name } = ratioOf(measurements, over, under, target);
  return { name, value, byCpu: byCpu === undefined ? undefined : 1 / byCpu, target };
}
