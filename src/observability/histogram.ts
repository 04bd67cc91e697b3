/** A histogram that keeps its counts in an array: prom-client's own costs too much on the request path. */
import { Histogram, type Registry } from 'prom-client';
import type { HistogramRow } from './metrics.ts';

interface HistogramSample {
  readonly metricName: string;
  readonly labels: Record<string, string | number>;
  readonly value: number;
}

/** prom-client's histogram without its counting: it shows the samples that it is given. */
export class ExternalHistogram extends Histogram {
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

export class Buckets {
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
