/** Which Machines are gone for certain: the evidence for giving up their sessions. */
import { detachedCopy, type MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';

/** Two readings have to be this far apart, from the end of the one to the begin of the other, in ms. */
export const MIN_ABSENCE_MS = 10_000;

/**
 * Machines watched at most. Whoever sends made-up hints can fill it, so the one not asked for
 * longest leaves first: to push out a Machine whose clients try again every second takes ten
 * thousand made-up names a second, and then that Machine is merely confirmed later.
 */
const MAX_WATCHED = 10_000;

/** A successful reading of every deployed Machine that listed this one. Monotonic times in ms. */
export interface AbsenceReading {
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  readonly machines: ReadonlySet<MachineId>;
}

export interface AbsenceWatch {
  record(reading: AbsenceReading): void;
  /** Whether the Machine is gone; one that was never listed is watched from now on. */
  isConfirmedGone(machine: MachineId): boolean;
}

/** `missedSinceMs`: end of the first reading without it; undefined while there was none yet. */
interface Watch {
  readonly watchedFromMs: number;
  readonly missedSinceMs: number | undefined;
}

/**
 * Watches each Machine that a reading no longer lists, or that is asked for and was not listed:
 *
 * ```
 * asked for -> watched --a reading begun since lacks it--> missed --one begun 10 s later too--> gone
 * listed --a reading lacks it------------------------------^          any reading lists it -> not watched
 * ```
 * A reading from before the question counts for nothing where a Machine was never listed: it may
 * have been created since, be listed by the next reading, and have sessions all the same.
 */
export function createAbsenceWatch(clock: Clock, maxWatched = MAX_WATCHED): AbsenceWatch {
  /** In the order in which they were last asked for. */
  const watches = new Map<MachineId, Watch>();
  let last: AbsenceReading | undefined;

  function record(reading: AbsenceReading): void {
    for (const machine of last?.machines ?? []) {
      if (reading.machines.has(machine)) continue;
      watch(machine, { watchedFromMs: reading.startedAtMs, missedSinceMs: undefined });
    }
    for (const [machine, { watchedFromMs, missedSinceMs }] of watches) {
      if (reading.machines.has(machine)) watches.delete(machine);
      else if (missedSinceMs === undefined && reading.startedAtMs >= watchedFromMs)
        watches.set(machine, { watchedFromMs, missedSinceMs: reading.endedAtMs });
    }
    last = reading;
  }

  function isConfirmedGone(machine: MachineId): boolean {
    if (last?.machines.has(machine)) return false;
    const watched = watches.get(machine);
    watches.delete(machine);
    watch(machine, watched ?? { watchedFromMs: clock.monotonicMs(), missedSinceMs: undefined });
    if (last === undefined || watched?.missedSinceMs === undefined) return false;
    return last.startedAtMs - watched.missedSinceMs >= MIN_ABSENCE_MS;
  }

  function watch(machine: MachineId, entry: Watch): void {
    watches.set(detachedCopy(machine), entry);
    if (watches.size <= maxWatched) return;
    const [longestUnasked] = watches.keys();
    if (longestUnasked !== undefined) watches.delete(longestUnasked);
  }

  return { record, isConfirmedGone };
}
