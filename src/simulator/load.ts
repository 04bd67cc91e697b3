/**
 * How many requests each Machine has at once: `hard_limit` of `[http_service.concurrency]` with
 * `type = "requests"` (https://fly.io/docs/reference/load-balancing/). Open streams and sockets count.
 */
import type { MachineId } from '../session.ts';

export interface Load {
  isFull(machine: MachineId): boolean;
  /** Takes a place; what it returns gives it back, once. Undefined if there is none. */
  take(machine: MachineId): (() => void) | undefined;
}

/** Without a limit there is always a place. */
export function createLoad(hardLimit = Infinity): Load {
  const taken = new Map<MachineId, number>();
  const count = (machine: MachineId): number => taken.get(machine) ?? 0;
  const isFull = (machine: MachineId): boolean => count(machine) >= hardLimit;
  return {
    isFull,
    take: (machine) => {
      if (isFull(machine)) return undefined;
      taken.set(machine, count(machine) + 1);
      let isTaken = true;
      return () => {
        if (isTaken) taken.set(machine, count(machine) - 1);
        isTaken = false;
      };
    },
  };
}
