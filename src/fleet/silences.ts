/** Which Machines have just not answered this one: remembered for a few seconds. */
import type { MachineId } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';

/** How long it is remembered, in ms: longer than a client waits that is told `Retry-After: 1`. */
export const SILENCE_MS = 5_000;
/** The oldest is forgotten beyond it. Only Machines that the directory lists are ever asked. */
const MAX_MACHINES = 1_000;

/**
 * What this Machine has met itself: a question or an announcement that stayed unanswered, a
 * connection that could not be made. No header puts a Machine here, as a client may have written it.
 * It is a reason to wait less for a Machine, and never one to give a session up (invariant 11).
 */
export interface Silences {
  noteSilence(machine: MachineId): void;
  /** It has answered, asked, told or taken a connection. */
  noteLife(machine: MachineId): void;
  isSilent(machine: MachineId): boolean;
}

export interface SilencesOptions {
  readonly clock: Clock;
  readonly maxMachines?: number;
}

export function createSilences(options: SilencesOptions): Silences {
  const { clock, maxMachines = MAX_MACHINES } = options;
  /** Monotonic ms at which the Machine was last silent, the longest ago first. */
  const silentAtMs = new Map<MachineId, number>();

  return {
    noteSilence: (machine) => {
      silentAtMs.delete(machine);
      silentAtMs.set(machine, clock.monotonicMs());
      const [oldest] = silentAtMs.keys();
      if (silentAtMs.size > maxMachines && oldest !== undefined) silentAtMs.delete(oldest);
    },
    noteLife: (machine) => void silentAtMs.delete(machine),
    isSilent: (machine) => {
      const atMs = silentAtMs.get(machine);
      return atMs !== undefined && clock.monotonicMs() - atMs < SILENCE_MS;
    },
  };
}

/** What an attempt to connect to that Machine tells. */
export function dialNotes(
  silences: Pick<Silences, 'noteSilence' | 'noteLife'>,
  machine: MachineId,
): (outcome: 'connected' | 'failed') => void {
  return (outcome) => {
    if (outcome === 'failed') silences.noteSilence(machine);
    else silences.noteLife(machine);
  };
}
