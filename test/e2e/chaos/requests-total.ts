/** The counts of a sidecar's decisions, from its metrics. */
import type { Decision } from '../support/ledger.ts';

/** By decision and reason, as `local owner`. */
export type Counts = ReadonlyMap<string, number>;

const LINE = /^fly_affinity_requests_total\{decision="([^"]+)",why="([^"]+)"\} (\d+)$/gm;

export async function requestsTotalAt(adminPort: number): Promise<Counts> {
  const response = await fetch(`http://127.0.0.1:${adminPort}/metrics`);
  const text = await response.text();
  return new Map(
    [...text.matchAll(LINE)].map(([, decision = '', why = '', count]) => [
      `${decision} ${why}`,
      Number(count),
    ]),
  );
}

export function countsOf(decisions: readonly Decision[]): Counts {
  const counts = new Map<string, number>();
  for (const { decision, why } of decisions) {
    const key = `${decision} ${why}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}
