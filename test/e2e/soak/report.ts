/** The figures of a run, as text. */
import { aligned } from '../crowd/table.ts';
import type { Check } from './checks/check.ts';
import { descriptorsText, MEGABYTE, type Readings } from './checks/memory.ts';
import type { Run } from './run.ts';
import type { Count, Tally } from './tally.ts';
import type { RunResult } from './verdict.ts';

/** `explained`: failures of requests whose app was killed meanwhile. */
const COLUMNS = [
  'steps',
  'requests',
  'replays',
  'laters',
  'ok',
  'explained',
  'unexpected',
] as const;

export function reportOf(run: Run, { checks, requestLines }: RunResult): readonly string[] {
  const { tally, readings, outages } = run;
  return [
    '',
    ...tallyTable(tally),
    '',
    ...(readings.length > 0 ? [...memoryTable(readings), ''] : []),
    ...descriptorLines(readings),
    ...requestLines,
    `apps killed and restarted: ${outages.count} times`,
    '',
    ...checkLines(checks),
  ];
}

function tallyTable(tally: Tally): readonly string[] {
  const rows = [...tally.counts()].toSorted(([one], [other]) => one.localeCompare(other));
  return aligned([
    ['kind', ...COLUMNS],
    ...rows.map(([kind, count]) => [kind, ...cellsOf(count)]),
    ['all', ...cellsOf(tally.total())],
  ]);
}

function cellsOf(count: Count): readonly string[] {
  return COLUMNS.map((column) => String(count[column]));
}

function memoryTable(all: readonly Readings[]): readonly string[] {
  return aligned([
    ['MB', 'start', 'warmed up', 'end', 'peak'],
    ...all.flatMap(({ name, start, baseline, end }) => [
      [`${name} heap used`, ...[start, baseline, end].map((at) => megabytes(at.heapUsedBytes)), ''],
      [`${name} external`, ...[start, baseline, end].map((at) => megabytes(at.externalBytes)), ''],
      [
        `${name} resident`,
        ...[start, baseline, end].map((at) => megabytes(at.rssBytes)),
        megabytes(end.peakRssBytes ?? 0),
      ],
    ]),
  ]);
}

function megabytes(bytes: number): string {
  return (bytes / MEGABYTE).toFixed(1);
}

function descriptorLines(all: readonly Readings[]): readonly string[] {
  return all.flatMap(({ name, ...readings }) =>
    (['start', 'baseline', 'end'] as const).flatMap((at) => {
      const { descriptors } = readings[at];
      return descriptors ? [`${name} descriptors, ${at}: ${descriptorsText(descriptors)}`] : [];
    }),
  );
}

function checkLines(checks: readonly Check[]): readonly string[] {
  return checks.map(({ what, expected, found, isMet }) =>
    isMet ? `ok      ${what}: ${found}` : `FAILED  ${what}: expected ${expected}, found ${found}`,
  );
}
