/** Results as text. */
import { isMet, type BenchResult, type Measurement, type Ratio, type Target } from './result.ts';

const NAME_WIDTH = 42;
const VALUE_WIDTH = 12;
const VERDICT_WIDTH = 24;

export function formatResult(result: BenchResult): string {
  const lines = [
    `\n${result.title}`,
    ...result.measurements.map((measurement) => formatMeasurement(measurement, result)),
    ...result.ratios.map(formatRatio),
  ];
  return lines.join('\n');
}

function formatMeasurement(
  { candidate, value, cpuMicros, coreShare }: Measurement,
  { unit, perUnit }: BenchResult,
): string {
  const cpu = cpuMicros === undefined ? '' : `${cpuMicros.toFixed(1)} µs CPU per ${perUnit}`;
  const busy = coreShare === undefined ? '' : `, core ${Math.round(coreShare * 100)} % busy`;
  return `  ${row(candidate, `${formatValue(value)} ${unit}`)}  ${cpu}${busy}`.trimEnd();
}

/**
 * If the two results differ, a candidate did not have its core to itself or did not use all of it.
 */
function formatRatio(ratio: Ratio): string {
  const { name, value, byCpu, target } = ratio;
  const verdict = target ? `target ${formatTarget(target)}  ${verdictOn(value, target)}` : '';
  const cpuVerdict =
    byCpu === undefined ? '' : `by CPU time ${byCpu.toFixed(2)}  ${verdictOn(byCpu, target)}`;
  return `  ${row(name, value.toFixed(3))}  ${verdict.padEnd(VERDICT_WIDTH)}${cpuVerdict}`.trimEnd();
}

function verdictOn(value: number, target: Target | undefined): string {
  if (!target) return '';
  return isMet(value, target) ? 'met' : 'MISSED';
}

function row(name: string, value: string): string {
  const [figure = '', ...unit] = value.split(' ');
  return [name.padEnd(NAME_WIDTH), figure.padStart(VALUE_WIDTH), ...unit].join(' ');
}

function formatTarget(target: Target): string {
  return 'atLeast' in target ? `≥ ${target.atLeast}` : `≤ ${target.atMost}`;
}

function formatValue(value: number): string {
  return value >= 1_000
    ? value.toLocaleString('en-US', { maximumFractionDigits: 0 })
    : value.toFixed(1);
}
