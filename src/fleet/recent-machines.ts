/** Machines of which something was noted lately. */
import type { MachineId } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';

export interface RecentMachines {
  /** From now on, for as long as it is remembered. */
  readonly note: (machine: MachineId) => void;
  readonly forget: (machine: MachineId) => void;
  readonly has: (machine: MachineId) => boolean;
}

export interface RecentMachinesOptions {
  readonly clock: Clock;
  readonly memoryMs: number;
  /** The one noted longest ago is forgotten beyond it. */
  readonly maxMachines?: number;
}

/** Far more than a fleet has: only Machines that the directory lists are ever asked or sent anything. */
const MAX_MACHINES = 1_000;

export function createRecentMachines(options: RecentMachinesOptions): RecentMachines {
  const { clock, memoryMs, maxMachines = MAX_MACHINES } = options;
  /** Monotonic ms at which each was noted last, the longest ago first. */
  const notedAtMs = new Map<MachineId, number>();

  return {
    note: (machine) => {
      notedAtMs.delete(machine);
      notedAtMs.set(machine, clock.monotonicMs());
      const [oldest] = notedAtMs.keys();
      if (notedAtMs.size > maxMachines && oldest !== undefined) notedAtMs.delete(oldest);
    },
    forget: (machine) => void notedAtMs.delete(machine),
    has: (machine) => {
      if (notedAtMs.size === 0) return false;
      const atMs = notedAtMs.get(machine);
      return atMs !== undefined && clock.monotonicMs() - atMs < memoryMs;
    },
  };
}
