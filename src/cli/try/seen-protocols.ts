/** What the sidecars of a simulation have recognised. */
import { asObject } from '../../json.ts';
import type { Simulation } from '../../simulator/simulation.ts';

const STATUS_TIMEOUT_MS = 1_000;

/** Requests with a session id, by protocol. A Machine that does not run has no part in it. */
export async function seenProtocols({
  machines,
}: Pick<Simulation, 'machines'>): Promise<ReadonlyMap<string, number>> {
  const totals = new Map<string, number>();
  for (const counts of await Promise.all(machines.map(({ ports }) => protocolsAt(ports.admin))))
    for (const [name, count] of counts) totals.set(name, (totals.get(name) ?? 0) + count);
  return totals;
}

async function protocolsAt(adminPort: number): Promise<readonly [string, number][]> {
  try {
    const signal = AbortSignal.timeout(STATUS_TIMEOUT_MS);
    const response = await fetch(`http://127.0.0.1:${adminPort}/status`, { signal });
    const { protocols } = asObject(await response.json()) ?? {};
    return Object.entries(asObject(protocols) ?? {}).map(([name, count]) => [name, Number(count)]);
  } catch {
    // The Machine has crashed, or was stopped.
    return [];
  }
}
