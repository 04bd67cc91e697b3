/** Results as text. */
import { isMet, type BenchResult, type Measurement, type Ratio } from './result.ts';

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
  { candidate, value, cpuMicros }: Measurement,
  { unit, perUnit }: BenchResult,
): string {
  const cpu = cpuMicros === undefined ? '' : `${cpuMicros.toFixed(1)} µs CPU per ${perUnit}`;
  return `  ${row(candidate, `${formatValue(value)} ${unit}`)}  ${cpu}`.trimEnd();
}

function formatRatio(ratio: Ratio): string {
  const outcome = isMet(ratio);
  const verdict =
    outcome === undefined ? '' : `target ${formatTarget(ratio)}  ${outcome ? 'met' : 'MISSED'}`;
  const byCpu = ratio.byCpu === undefined ? '' : `by CPU time ${ratio.byCpu.toFixed(2)}`;
  return `  ${row(ratio.name, ratio.value.toFixed(2))}  ${verdict.padEnd(VERDICT_WIDTH)}${byCpu}`.trimEnd();
}

function row(name: string, value: string): string {
  const [figure = '', ...unit] = value.split(' ');
  return [name.padEnd(NAME_WIDTH), figure.padStart(VALUE_WIDTH), ...unit].join(' ');
}

function formatTarget({ target }: Ratio): string {
  if (!target) return '';
  return 'atLeast' in target ? `≥ ${target.atLeast}` : `≤ ${target.atMost}`;
}

function formatValue(value: number): string {
  return value >= 1_000
    ? value.toLocaleString('en-US', { maximumFractionDigits: 0 })
    : value.toFixed(1);
}
