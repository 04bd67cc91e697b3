/** The result of a bench, as the table shows it. */
import { median } from './median.ts';

/** One candidate's figure: the median of its turns. */
export interface Measurement {
  readonly candidate: string;
  readonly value: number;
  /** The figure of each turn, where candidates take turns. */
  readonly turns?: readonly number[];
  /**
   * CPU time in µs of the candidate's process per `perUnit`, where the system reports it: less
   * noisy than `value`.
   */
  readonly cpuMicros: number | undefined;
  /** Share of one core that its process has used; well below 1, something else was the limit. */
  readonly coreShare?: number;
}

/** The ratio of two figures, and the project's target. */
export interface Ratio {
  readonly name: string;
  readonly value: number;
  /**
   * The same by CPU time, where each candidate has a core for itself and is bound by it: without
   * the noise of other processes.
   */
  readonly byCpu: number | undefined;
  /** Undefined: for information. */
  readonly target: Target | undefined;
}

export type Target = { readonly atLeast: number } | { readonly atMost: number };

export interface BenchResult {
  readonly title: string;
  /** Unit of the measurements, such as `requests/s`. */
  readonly unit: string;
  /** The unit of work for CPU time, such as `request`. */
  readonly perUnit: string;
  readonly measurements: readonly Measurement[];
  readonly ratios: readonly Ratio[];
}

export function isMet(value: number, target: Target): boolean {
  return 'atLeast' in target ? value >= target.atLeast : value <= target.atMost;
}

/**
 * The ratio of two candidates' values; NaN if one was not measured. Where they took turns, it is
 * the median of the ratios of their turns, as a slow phase of the machine slows neighbours alike.
 */
export function ratioOf(
  measurements: readonly Measurement[],
  over: string,
  under: string,
  target?: Target,
): Ratio {
  const upper = find(measurements, over);
  const lower = find(measurements, under);
  const ratios = upper?.turns?.map((value, turn) => value / (lower?.turns?.[turn] ?? Number.NaN));
  return {
    name: `${over} / ${under}`,
    value: ratios ? median(ratios) : (upper?.value ?? Number.NaN) / (lower?.value ?? Number.NaN),
    // Less time for the same work is a higher ratio.
    byCpu: lower?.cpuMicros && upper?.cpuMicros ? lower.cpuMicros / upper.cpuMicros : undefined,
    target,
  };
}

/** Targets of the ratios to other candidates; undefined: for information. */
export type TargetsByCandidate = Readonly<Record<string, Target | undefined>>;

/** The ratios of one candidate to others; those that were not measured are left out. */
export function ratiosTo(
  measurements: readonly Measurement[],
  over: string,
  targets: TargetsByCandidate,
): Ratio[] {
  return Object.entries(targets)
    .filter(([under]) => find(measurements, under) !== undefined)
    .map(([under, target]) => ratioOf(measurements, over, under, target));
}

/** The same ratios by CPU time alone: time over time, so less is better. */
export function cpuRatiosTo(
  measurements: readonly Measurement[],
  over: string,
  targets: TargetsByCandidate,
): Ratio[] {
  return ratiosTo(measurements, over, targets).map(({ name, byCpu = Number.NaN, target }) => ({
    name: `CPU time: ${name}`,
    value: 1 / byCpu,
    byCpu: undefined,
    target,
  }));
}

/** A candidate's own figure and its target. */
export function figureOf(
  measurements: readonly Measurement[],
  candidate: string,
  name: string,
  target: Target,
): Ratio {
  const value = find(measurements, candidate)?.value ?? Number.NaN;
  return { name, value, byCpu: undefined, target };
}

function find(measurements: readonly Measurement[], candidate: string): Measurement | undefined {
  return measurements.find((measurement) => measurement.candidate === candidate);
}

/** The same where the values are costs: more time for the same work is a higher ratio. */
export function costRatioOf(
  measurements: readonly Measurement[],
  over: string,
  under: string,
  target?: Target,
): Ratio {
  const { value, byCpu, name } = ratioOf(measurements, over, under, target);
  return { name, value, byCpu: byCpu === undefined ? undefined : 1 / byCpu, target };
}
