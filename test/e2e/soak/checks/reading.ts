/** A sidecar's memory and descriptors at one moment. */
import type { KnownPorts } from './descriptors.ts';
import { readDescriptors, readResident, type Descriptors } from './descriptors.ts';
import type { MemoryReading } from '../processes/messages.ts';
import type { SidecarProcess } from '../sidecar-process.ts';

export interface Reading extends MemoryReading {
  /** The maximum resident memory so far; undefined where the system does not report it. */
  readonly peakRssBytes: number | undefined;
  readonly descriptors: Descriptors | undefined;
}

/** Undefined once the sidecar has ended. */
export async function takeReading(
  sidecar: SidecarProcess,
  ports: KnownPorts,
): Promise<Reading | undefined> {
  const memory = await sidecar.memory();
  if (!memory) return undefined;
  const [resident, descriptors] = await Promise.all([
    readResident(sidecar.pid),
    readDescriptors(sidecar.pid, ports),
  ]);
  return { ...memory, peakRssBytes: resident?.peak, descriptors };
}
