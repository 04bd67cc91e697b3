/** The metrics as Prometheus reads them: registers the tables of `metrics.ts` with prom-client. */
import { Counter, Gauge, Registry, Histogram } from 'prom-client';
import {
  FROM_STORE,
  FROM_STORE_HEALTH,
  RECORDED,
  SAMPLED,
  type Metrics,
  type Recorders,
  type SampledRow,
  type StoreRow,
  type WatchedStore,
  type CounterRow,
  type HistogramRow,
  type Label,
} from './metrics.ts';
import { registerProcessMetrics } from './process-metrics.ts';
import type { Clock } from '../clock.ts';
import type { StoreMetrics } from '../store/store.ts';

export interface MetricsOptions {
  readonly clock: Clock;
  readonly version: string;
}

/** Each call has a registry of its own, so that two sidecars can run in one process. */
export function createMetrics({ clock, version }: MetricsOptions): Metrics {
  const registry = new Registry();
  const stopProcessMetrics = registerProcessMetrics(registry, version);
  const store = new StoreReader(clock);
  registerStore(registry, FROM_STORE, () => store.last());
  registerStore(registry, FROM_STORE_HEALTH, () => store.health());
  return {
    ...registerRecorders(registry),
    watchStore: (watched) => store.watch(watched),
    render: async () => {
      await store.read();
      return registry.metrics();
    },
    contentType: registry.contentType,
    close: stopProcessMetrics,
  };
}

function registerRecorders(registry: Registry): Recorders {
  const recorded = Object.entries(RECORDED).map(([name, row]) => [
    name,
    row.kind === 'histogram' ? registerHistogram(registry, row) : registerCounter(registry, row),
  ]);
  const sampled = Object.entries(SAMPLED).map(([name, row]) => [
    name,
    registerSampled(registry, row),
  ]);
  return Object.fromEntries([...recorded, ...sampled]) as Recorders;
}

type Sample = number | Readonly<Record<string, number>>;

function registerSampled(
  registry: Registry,
  { name, help, labels: [label], initial }: SampledRow,
): (read: () => Sample) => void {
  let current: (() => Sample) | undefined = initial === undefined ? undefined : () => initial;
  const register = (): void => {
    new Gauge({
      ...{ name, help, registers: [registry], labelNames: label ? [label.name] : [] },
      collect() {
        const sample = current?.() ?? 0;
        if (typeof sample === 'number') this.set(sample);
        else
          for (const [value, n] of Object.entries(sample))
            this.set({ [label?.name ?? '']: value }, n);
      },
    });
  };
  if (current) register();
  return (read) => {
    if (!current) register();
    current = read;
  };
}

function registerStore<Source>(
  registry: Registry,
  rows: readonly StoreRow<Source>[],
  source: () => Source | undefined,
): void {
  for (const { type, name, help, read } of rows) {
    const Metric: typeof Gauge | typeof Counter = type === 'gauge' ? Gauge : Counter;
    new Metric({
      ...{ name, help, registers: [registry] },
      collect() {
        const found = source();
        // The store has its own counters: the metric shows their values as they are.
        this.reset();
        this.inc(found === undefined ? 0 : read(found));
      },
    });
  }
}

const STORE_READ_TIMEOUT_MS = 2000;

/** Reads the watched store at every scrape, one read at a time. */
class StoreReader {
  readonly #clock: Clock;
  #watched: WatchedStore | undefined;
  #last: StoreMetrics | undefined;
  #reading: Promise<void> | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  watch(store: WatchedStore): void {
    this.#watched = store;
  }

  last(): StoreMetrics | undefined {
    return this.#last;
  }

  health(): ReturnType<WatchedStore['health']> | undefined {
    return this.#watched?.health();
  }

  /** Resolves when the store has responded, or after {@link STORE_READ_TIMEOUT_MS}; never rejects. */
  async read(): Promise<void> {
    if (!this.#watched) return;
    this.#reading ??= this.#readOnce(this.#watched);
    const deadline = new AbortController();
    await Promise.race([this.#reading, this.#clock.sleep(STORE_READ_TIMEOUT_MS, deadline.signal)]);
    deadline.abort();
  }

  async #readOnce(store: WatchedStore): Promise<void> {
    try {
      this.#last = await store.getMetrics();
    } catch {
      // The last values stay; the failure is counted among the operations of the store.
    } finally {
      this.#reading = undefined;
    }
  }
}

type Value = string & number;
type AnyLabel = Label<never>;

const OTHER = 'other';

/** Counts for each combination of at most two labels. Returns the function that counts. */
function registerCounter(
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
function registerHistogram(registry: Registry, row: HistogramRow): (...args: never[]) => void {
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

interface HistogramSample {
  readonly metricName: string;
  readonly labels: Record<string, string | number>;
  readonly value: number;
}

/** prom-client's histogram without its counting: it shows the samples that it is given. */
class ExternalHistogram extends Histogram {
  readonly #row: HistogramRow;
  readonly #samples: () => HistogramSample[];

  constructor(registry: Registry, row: HistogramRow, samples: () => HistogramSample[]) {
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

  samples(name: string, labels: Record<string, string>): HistogramSample[] {
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
