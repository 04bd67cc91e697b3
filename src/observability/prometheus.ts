/** The metrics as Prometheus reads them: registers the tables of `metrics.ts` with prom-client. */
import { Counter, Gauge, Registry } from 'prom-client';
import { registerCounter, registerHistogram } from './counters.ts';
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
