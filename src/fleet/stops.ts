/** Which Machines have been stopped or suspended for long enough to be sure of it. */
import type { MachineId } from '../affinity/session.ts';
import { MIN_ABSENCE_MS } from './absences.ts';

/** A successful reading of both lists. Monotonic times in ms. */
export interface StopReading {
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  readonly running: ReadonlySet<MachineId>;
  /** Stopped and suspended ones too. */
  readonly deployed: ReadonlySet<MachineId>;
}

export interface Stops {
  record(reading: StopReading): void;
  /** Whether the last reading has it deployed and not running. */
  isStopped(machine: MachineId): boolean;
  /** Whether all readings of ten seconds or more have. */
  isConfirmedStopped(machine: MachineId): boolean;
}

/**
 * The rule of {@link createAbsences}, for Machines that are still there: two readings ten seconds
 * apart or more, and none between them that lists it as running. What a client says adds nothing
 * here, so that there are never more entries than Machines.
 */
export function createStops(): Stops {
  /** End of the first of the readings in a row that have the Machine stopped. */
  let stoppedSinceMs: ReadonlyMap<MachineId, number> = new Map();
  let lastStartedAtMs = -Infinity;

  function record({ startedAtMs, endedAtMs, running, deployed }: StopReading): void {
    const stopped = [...deployed].filter((machine) => !running.has(machine));
    stoppedSinceMs = new Map(
      stopped.map((machine) => [machine, stoppedSinceMs.get(machine) ?? endedAtMs]),
    );
    lastStartedAtMs = startedAtMs;
  }

  return {
    record,
    isStopped: (machine) => stoppedSinceMs.has(machine),
    isConfirmedStopped: (machine) => {
      const sinceMs = stoppedSinceMs.get(machine);
      return sinceMs !== undefined && lastStartedAtMs - sinceMs >= MIN_ABSENCE_MS;
    },
  };
}
