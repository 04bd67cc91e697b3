/** The metrics as Prometheus reads them: registers the tables of `metrics.ts` with prom-client. */
import { Counter, Gauge, Registry } from 'prom-client';
import { Buckets, ExternalHistogram } from './histogram.ts';
import {
  FROM_STORE,
  FROM_STORE_HEALTH,
  RECORDED,
  SAMPLED,
  type CountSample,
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

interface MetricsOptions {
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
  const { recorders, samplesOf } = registerRecorders(registry);
  return {
    ...recorders,
    counts: (name) => samplesOf.get(name)?.() ?? [],
    watchStore: (watched) => store.watch(watched),
    render: async () => {
      await store.read();
      return registry.metrics();
    },
    contentType: registry.contentType,
    close: stopProcessMetrics,
  };
}

type ReadSamples = () => readonly CountSample[];

interface Registered {
  readonly recorders: Recorders;
  /** Of the counters, by the names of their rows. */
  readonly samplesOf: ReadonlyMap<string, ReadSamples>;
}

function registerRecorders(registry: Registry): Registered {
  const samplesOf = new Map<string, ReadSamples>();
  const recorded = Object.entries(RECORDED).map(([name, row]) => {
    if (row.kind === 'histogram') return [name, registerHistogram(registry, row)];
    const { count, samples } = registerCounter(registry, row);
    samplesOf.set(name, samples);
    return [name, count];
  });
  const sampled = Object.entries(SAMPLED).map(([name, row]) => [
    name,
    registerSampled(registry, row),
  ]);
  const recorders = Object.fromEntries([...recorded, ...sampled]) as Recorders;
  return { recorders, samplesOf };
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

type Recorder = (...args: never[]) => void;

/** Counts for each combination of at most two labels. */
function registerCounter(
  registry: Registry,
  { kind, name, help, labels }: CounterRow,
): { readonly count: Recorder; readonly samples: ReadSamples } {
  const [first, second] = labels;
  const rows = first ? valuesOf(first) : [''];
  const columns = second ? valuesOf(second) : [''];
  const counts = new Float64Array(rows.length * columns.length);
  // Most pairs can never happen, and `other` seldom does.
  const isShown = ({ count, values: [row] }: CountSample): boolean =>
    count !== 0 || (second === undefined && row !== OTHER);
  const samples = (): CountSample[] =>
    Array.from(counts, (count, index) => {
      const row = rows[Math.floor(index / columns.length)] ?? OTHER;
      const column = columns[index % columns.length] ?? OTHER;
      return { count, values: [...(first ? [row] : []), ...(second ? [column] : [])] };
    }).filter(isShown);
  const Metric: typeof Gauge | typeof Counter = kind === 'gauge' ? Gauge : Counter;
  new Metric({
    ...{ name, help, registers: [registry], labelNames: labels.map((label) => label.name) },
    collect() {
      this.reset();
      for (const { count, values } of samples())
        this.inc(Object.fromEntries(labels.map((label, i) => [label.name, values[i]])), count);
    },
  });
  return { count: createCount(counts, first, second), samples };
}

function createCount(
  counts: Float64Array,
  first: AnyLabel | undefined,
  second: AnyLabel | undefined,
): Recorder {
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
function registerHistogram(registry: Registry, row: HistogramRow): Recorder {
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
