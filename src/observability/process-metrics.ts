/**
 * The metrics that Prometheus expects of every process, under their usual names. prom-client has them
 * too, but starts an event-loop monitor and a garbage-collection observer that can't be stopped
 * (siimon/prom-client, lib/metrics/eventLoopLag.js and gc.js).
 */
import { readFile, readdir } from 'node:fs/promises';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, type Registry } from 'prom-client';

/** Registers all of them. The returned function stops what measures in the background. */
export function registerProcessMetrics(registry: Registry, version: string): () => void {
  new Gauge({
    name: 'fly_affinity_build_info',
    help: 'Always 1; the labels are the versions that run.',
    labelNames: ['version', 'node'],
    registers: [registry],
  }).set({ version, node: process.version }, 1);
  registerCpu(registry);
  registerMemory(registry);
  registerFileDescriptors(registry);
  new Gauge({
    name: 'process_start_time_seconds',
    help: 'When the process started, in seconds since the epoch.',
    registers: [registry],
  }).set(Math.round(performance.timeOrigin / 1000));
  return registerEventLoopDelay(registry);
}

/** The monitor measures how late a timer of this resolution fires. */
const EVENT_LOOP_RESOLUTION_MS = 10;
const EVENT_LOOP_QUANTILES = ['0.5', '0.9', '0.99', '0.999', '1'];

function registerEventLoopDelay(registry: Registry): () => void {
  const delay = monitorEventLoopDelay({ resolution: EVENT_LOOP_RESOLUTION_MS });
  delay.enable();
  new Gauge({
    name: 'nodejs_eventloop_delay_seconds',
    help: 'Delay of the event loop since the last scrape; 0.01 if it is idle.',
    labelNames: ['quantile'],
    registers: [registry],
    collect() {
      for (const quantile of EVENT_LOOP_QUANTILES) {
        this.set({ quantile }, delay.percentile(Number(quantile) * 100) / 1e9);
      }
      delay.reset();
    },
  });
  return () => delay.disable();
}

function registerCpu(registry: Registry): void {
  new Counter({
    name: 'process_cpu_seconds_total',
    help: 'User and system CPU time spent, in seconds.',
    registers: [registry],
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
}

function registerMemory(registry: Registry): void {
  const gauge = (name: string, help: string, read: () => number): Gauge =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read());
      },
    });
  gauge('process_resident_memory_bytes', 'Resident memory in bytes.', () =>
    process.memoryUsage.rss(),
  );
  gauge('nodejs_heap_size_total_bytes', 'Size of the JavaScript heap in bytes.', () => {
    return process.memoryUsage().heapTotal;
  });
  gauge('nodejs_heap_size_used_bytes', 'Heap in use, in bytes.', () => {
    return process.memoryUsage().heapUsed;
  });
  gauge('nodejs_external_memory_bytes', 'Memory outside the heap, buffers included.', () => {
    return process.memoryUsage().external;
  });
}

/** Linux only: they are read from /proc. */
function registerFileDescriptors(registry: Registry): void {
  if (process.platform !== 'linux') return;
  new Gauge({
    name: 'process_open_fds',
    help: 'Number of open file descriptors.',
    registers: [registry],
    async collect() {
      // One of them is the directory that is being read.
      this.set((await readdir('/proc/self/fd')).length - 1);
    },
  });
  new Gauge({
    name: 'process_max_fds',
    help: 'Maximum number of open file descriptors.',
    registers: [registry],
    async collect() {
      const limits = await readFile('/proc/self/limits', 'utf8');
      const limit = /^Max open files\s+(\d+)/m.exec(limits)?.[1];
      if (limit !== undefined) this.set(Number(limit));
    },
  });
}
