import type { TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import type { Metrics } from '../../src/observability/metrics.ts';
import { createMetrics } from '../../src/observability/prometheus.ts';

/** The metrics of one sidecar, closed after the test. */
export function openMetrics(t: TestContext, clock = systemClock): Metrics {
  const metrics = createMetrics({ clock, version: 'test' });
  t.after(() => metrics.close());
  return metrics;
}
