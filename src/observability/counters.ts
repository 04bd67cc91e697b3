/**
 * Counters and histograms for the request path: plain numbers in arrays, handed to prom-client when
 * a scrape asks for them. prom-client's own hash the labels of every increment.
 */
import { Counter, Histogram, type Registry } from 'prom-client';

/** A label and all the values it can take; anything else is counted as `other`. */
export interface Label {
  readonly name: string;
  readonly values: readonly string[];
}

export interface Description {
  readonly name: string;
  readonly help: string;
}

/** A counter with one label. */
export function registerCounts(
  registry: Registry,
  description: Description,
  label: Label,
): (value: string, by?: number) => void {
  const values = [...label.values, OTHER];
  const indexOf = indexTable(values);
  const counts = new Float64Array(values.length);
  new Counter({
    ...description,
    labelNames: [label.name],
    registers: [registry],
    collect() {
      this.reset();
      values.forEach((value, index) => {
        const isShown = value !== OTHER || counts[index] !== 0;
        if (isShown) this.inc({ [label.name]: value }, counts[index] ?? 0);
      });
    },
  });
  return (value, by = 1) => {
    const index = indexOf[value] ?? values.length - 1;
    counts[index] = (counts[index] ?? 0) + by;
  };
}

/** A counter with two labels. Pairs that never happened are not shown: most never can. */
export function registerCountPairs(
  registry: Registry,
  description: Description,
  row: Label,
  column: Label,
): (rowValue: string, columnValue: string) => void {
  const rows = [...row.values, OTHER];
  const columns = [...column.values, OTHER];
  const rowIndexOf = indexTable(rows);
  const columnIndexOf = indexTable(columns);
  const counts = new Float64Array(rows.length * columns.length);
  new Counter({
    ...description,
    labelNames: [row.name, column.name],
    registers: [registry],
    collect() {
      this.reset();
      counts.forEach((count, index) => {
        if (count === 0) return;
        const rowValue = rows[Math.floor(index / columns.length)] ?? OTHER;
        const columnValue = columns[index % columns.length] ?? OTHER;
        this.inc({ [row.name]: rowValue, [column.name]: columnValue }, count);
      });
    },
  });
  return (rowValue, columnValue) => {
    const rowIndex = rowIndexOf[rowValue] ?? rows.length - 1;
    const index = rowIndex * columns.length + (columnIndexOf[columnValue] ?? columns.length - 1);
    counts[index] = (counts[index] ?? 0) + 1;
  };
}

/** A histogram, one for each value of `label` or just one. Observes milliseconds, shows seconds. */
export function registerDurations(
  registry: Registry,
  description: Description,
  bucketsMs: readonly number[],
  label?: Label,
): (durationMs: number, value?: string) => void {
  const values = label ? [...label.values, OTHER] : [OTHER];
  const indexOf = indexTable(values);
  const series = values.map(() => createBuckets(bucketsMs));
  new HandedOverHistogram(registry, description, bucketsMs, () =>
    series.flatMap((buckets, index) => {
      if (label && buckets.isEmpty()) return [];
      return buckets.samples(
        description.name,
        label ? { [label.name]: values[index] ?? OTHER } : {},
      );
    }),
  );
  return (durationMs, value = OTHER) => {
    series[indexOf[value] ?? values.length - 1]?.observe(durationMs);
  };
}

const OTHER = 'other';

function indexTable(values: readonly string[]): Readonly<Record<string, number | undefined>> {
  const table = Object.create(null) as Record<string, number>;
  values.forEach((value, index) => (table[value] = index));
  return table;
}

interface Sample {
  readonly metricName: string;
  readonly labels: Record<string, string | number>;
  readonly value: number;
}

/** prom-client's histogram with its counting taken out: it shows what it is handed. */
class HandedOverHistogram extends Histogram {
  readonly #description: Description;
  readonly #samples: () => Sample[];

  constructor(
    registry: Registry,
    description: Description,
    bucketsMs: readonly number[],
    samples: () => Sample[],
  ) {
    super({ ...description, buckets: bucketsMs.map(toSeconds), registers: [registry] });
    this.#description = description;
    this.#samples = samples;
  }

  /** What both `get` and the registry ask (prom-client 15, lib/histogram.js and lib/registry.js). */
  getForPromString(): Promise<object> {
    const values = this.#samples();
    return Promise.resolve({ ...this.#description, type: 'histogram', aggregator: 'sum', values });
  }
}

interface Buckets {
  observe(durationMs: number): void;
  isEmpty(): boolean;
  samples(name: string, labels: Record<string, string>): Sample[];
}

function createBuckets(bucketsMs: readonly number[]): Buckets {
  const counts = new Float64Array(bucketsMs.length + 1);
  let sumMs = 0;
  return {
    observe: (durationMs) => {
      let index = 0;
      while (index < bucketsMs.length && durationMs > (bucketsMs[index] ?? 0)) index++;
      counts[index] = (counts[index] ?? 0) + 1;
      sumMs += durationMs;
    },
    isEmpty: () => counts.every((count) => count === 0),
    samples: (name, labels) => {
      let total = 0;
      const buckets = Array.from(counts, (count, index) => {
        total += count;
        const bound = bucketsMs[index];
        const le = bound === undefined ? '+Inf' : toSeconds(bound);
        return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: total };
      });
      return [
        ...buckets,
        { metricName: `${name}_sum`, labels, value: toSeconds(sumMs) },
        { metricName: `${name}_count`, labels, value: total },
      ];
    },
  };
}

function toSeconds(ms: number): number {
  return ms / 1000;
}
