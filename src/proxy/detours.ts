/**
 * Which Machines the edge could not deliver to just now, though the private network could: at their
 * hard limit, or cut off from it. For a while what is theirs takes that way at once, instead of
 * waiting for the edge each time (`REPLAY_TIMEOUT_MS`).
 *
 *     came back undelivered, forwarded, answered ─> noted ─ 10 s ─> the edge is tried again
 *
 * That it came back is what a header says, which a client may have written; that the forward was
 * answered is what this Machine has seen. So a forged one costs other requests a hop through here, and
 * brings them where they belong all the same (invariant 4).
 */
import type { Decision } from '../affinity/decide.ts';
import type { MachineId } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';
import { createRecentMachines } from '../fleet/recent-machines.ts';

export interface Detours {
  /** A forward for this decision was answered. */
  noteForwarded(decision: Decision): void;
  has(machine: MachineId): boolean;
}

const DETOUR_MS = 10_000;

export function createDetours(clock: Clock): Detours {
  const recent = createRecentMachines({ clock, memoryMs: DETOUR_MS });
  return {
    // Not of a detour itself: it would never end while there are requests.
    noteForwarded: (decision) => {
      const wasUndelivered = decision.why === 'owner-unreachable';
      if (decision.kind === 'forward' && wasUndelivered) recent.note(decision.to);
    },
    has: (machine) => recent.has(machine),
  };
}
