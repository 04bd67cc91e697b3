/**
 * Counters and histograms for the request path: plain numbers in arrays, handed to prom-client at a
 * scrape. prom-client's own counters hash their labels at every increment.
 */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { CounterRow, HistogramRow, Label } from './metrics.ts';

type Value = string & number;
type AnyLabel = Label<never>;

const OTHER = 'other';

/** Counts for each combination of at most two labels. Returns the function that counts. */
export function registerCounter(
  registry: Registry,
  { kind, name, help, labels }: CounterRow,
): (...args: never[]) => void {
  const [first, second] = labels;
  const rows = first ? valuesOf(first) : [''];
  const columns = second ? valuesOf(second) : [''];
  const counts = new Float64Array(rows.length * columns.length);
  const Metric: typeof Gauge | typeof Counter = kind === 'gauge' ? Gauge : Counter;
  new Metric({
    ...{ name, help, registers: [registry], labelNames: labels.map((label) => label.name) },
    collect() {
      this.reset();
      counts.forEach((count, index) => {
        const row = rows[Math.floor(index / columns.length)] ?? OTHER;
        const column = columns[index % columns.length] ?? OTHER;
        // Most pairs can never happen, and `other` seldom does.
        if (count === 0 && (second || row === OTHER)) return;
        this.inc(
          { ...(first && { [first.name]: row }), ...(second && { [second.name]: column }) },
          count,
        );
      });
    },
  });
  return createCount(counts, first, second);
}

function createCount(
  counts: Float64Array,
  first: AnyLabel | undefined,
  second: AnyLabel | undefined,
): (...args: never[]) => void {
  const add = (index: number, by: number): void => {
    counts[index] = (counts[index] ?? 0) + by;
  };
  if (!first) return (by = 1) => add(0, by);
  const rowOf = createIndex(first);
  if (!second) return (value: Value, by = 1) => add(rowOf(value), by);
  const columnOf = createIndex(second);
  const width = valuesOf(second).length;
  return (row: Value, column: Value, by = 1) => add(rowOf(row) * width + columnOf(column), by);
}

/** Observes milliseconds and shows seconds, for each value of at most one label. Returns the function that observes. */
export function registerHistogram(
  registry: Registry,
  row: HistogramRow,
): (...args: never[]) => void {
  const { bucketsMs, labels } = row;
  const [label] = labels;
  const values = label ? valuesOf(label) : [''];
  const series = values.map(() => new Buckets(bucketsMs));
  new ExternalHistogram(registry, row, () =>
    series.flatMap((buckets, index) => {
      if (!label) return buckets.samples(row.name, {});
      return buckets.isEmpty()
        ? []
        : buckets.samples(row.name, { [label.name]: values[index] ?? OTHER });
    }),
  );
  const indexOf = label ? createIndex(label) : () => 0;
  return (durationMs: number, value: Value) => series[indexOf(value)]?.observe(durationMs);
}

function valuesOf({ values }: AnyLabel): readonly string[] {
  return [...values, OTHER];
}

/** The index in {@link valuesOf} of what the program records. */
function createIndex(label: AnyLabel): (recorded: Value) => number {
  const { values, classify } = label;
  const table = Object.create(null) as Record<string, number | undefined>;
  values.forEach((value, index) => (table[value] = index));
  if (classify) return (recorded) => table[classify(recorded)] ?? values.length;
  return (recorded) => table[recorded] ?? values.length;
}

interface Sample {
  readonly metricName: string;
  readonly labels: Record<string, string | number>;
  readonly value: number;
}

/** prom-client's histogram without its counting: it shows the samples that it is given. */
class ExternalHistogram extends Histogram {
  readonly #row: HistogramRow;
  readonly #samples: () => Sample[];

  constructor(registry: Registry, row: HistogramRow, samples: () => Sample[]) {
    const { name, help, bucketsMs } = row;
    super({ name, help, buckets: bucketsMs.map(toSeconds), registers: [registry] });
    this.#row = row;
    this.#samples = samples;
  }

  /** What both `get` and the registry call (prom-client 15, lib/histogram.js and lib/registry.js). */
  getForPromString(): Promise<object> {
    const { name, help } = this.#row;
    const values = this.#samples();
    return Promise.resolve({ name, help, type: 'histogram', aggregator: 'sum', values });
  }
}

class Buckets {
  readonly #boundsMs: readonly number[];
  readonly #counts: Float64Array;
  #sumMs = 0;

  constructor(boundsMs: readonly number[]) {
    this.#boundsMs = boundsMs;
    this.#counts = new Float64Array(boundsMs.length + 1);
  }

  observe(durationMs: number): void {
    const boundsMs = this.#boundsMs;
    let index = 0;
    while (index < boundsMs.length && durationMs > (boundsMs[index] ?? 0)) index++;
    this.#counts[index] = (this.#counts[index] ?? 0) + 1;
    this.#sumMs += durationMs;
  }

  isEmpty(): boolean {
    return this.#counts.every((count) => count === 0);
  }

  samples(name: string, labels: Record<string, string>): Sample[] {
    let total = 0;
    const buckets = Array.from(this.#counts, (count, index) => {
      total += count;
      const bound = this.#boundsMs[index];
      const le = bound === undefined ? '+Inf' : toSeconds(bound);
      return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: total };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels, value: toSeconds(this.#sumMs) },
      { metricName: `${name}_count`, labels, value: total },
    ];
  }
}

function toSeconds(ms: number): number {
  return ms / 1000;
}
