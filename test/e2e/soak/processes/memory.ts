/** Preloaded into a sidecar: collects garbage on request, and reports the memory in use. */
import type { MemoryReading } from './messages.ts';

/** Repeated with pauses: what is freed in one turn frees more in the next. */
const COLLECTIONS = 6;
const PAUSE_MS = 100;

process.on('message', () => void read().then((reading) => process.send?.(reading)));
// The sidecar ends with the script that started it.
process.on('disconnect', () => process.exit());
// This channel must not keep a sidecar alive that ends by itself.
process.channel?.unref();

async function read(): Promise<MemoryReading> {
  for (let i = 0; i < COLLECTIONS; i += 1) {
    globalThis.gc?.();
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  const { heapUsed, external, rss } = process.memoryUsage();
  return {
    heapUsedBytes: heapUsed,
    externalBytes: external,
    rssBytes: rss,
    resources: countsOf(process.getActiveResourcesInfo()),
  };
}

function countsOf(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
