/** The private addresses of Machines by their names, kept from reading to reading. */
import type { MachineId } from '../session.ts';
import { normalizeAddress } from './addresses.ts';

export interface MachineAddressesOptions {
  /** Addresses of one Machine, in any spelling; rejects if there are none. */
  readonly resolve: (machine: MachineId) => Promise<readonly string[]>;
  /** A Machine's address is asked for again at every so many-th reading. */
  readonly readingsKept?: number;
}

export interface MachineAddresses {
  /**
   * Addresses of these Machines, in their canonical spelling; empty where none is known. Those not
   * among them are forgotten. Never rejects: where the name server fails, the last answer stays.
   */
  of(machines: readonly MachineId[]): Promise<ReadonlyMap<MachineId, readonly string[]>>;
}

/** `FLY_PRIVATE_IP` can change when a Machine reboots, at times faster than it leaves the list. */
const READINGS_KEPT = 3;

interface Known {
  readonly addresses: readonly string[];
  readonly resolvedAtReading: number;
}

export function createMachineAddresses(options: MachineAddressesOptions): MachineAddresses {
  const { resolve, readingsKept = READINGS_KEPT } = options;
  let known = new Map<MachineId, Known>();
  let reading = 0;

  async function refresh(machine: MachineId): Promise<Known> {
    const before = known.get(machine);
    if (before && reading - before.resolvedAtReading < readingsKept) return before;
    try {
      return { addresses: normalize(await resolve(machine)), resolvedAtReading: reading };
    } catch {
      // A Machine may be listed before it has a name, or a moment longer than it has one.
      return before ?? { addresses: [], resolvedAtReading: -Infinity };
    }
  }

  async function of(machines: readonly MachineId[]): Promise<Map<MachineId, readonly string[]>> {
    reading += 1;
    const found = await Promise.all(machines.map(async (m) => [m, await refresh(m)] as const));
    known = new Map(found);
    return new Map(found.map(([machine, { addresses }]) => [machine, addresses]));
  }

  return { of };
}

function normalize(addresses: readonly string[]): string[] {
  return addresses.flatMap((address) => normalizeAddress(address) ?? []);
}
