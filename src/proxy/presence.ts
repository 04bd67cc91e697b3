/** What is known of a Machine at once: from the directory, and from what this one has met itself. */
import type { Presence } from '../affinity/decide.ts';
import type { MachineId } from '../affinity/session.ts';
import type { Directory } from '../fleet/directory.ts';
import type { Silences } from '../fleet/silences.ts';
import type { Detours } from './detours.ts';

export type PresenceOf = (machine: MachineId) => Presence;

export interface PresenceParts {
  readonly directory: Pick<Directory, 'isConfirmedGone' | 'isConfirmedStopped' | 'listing'>;
  readonly silences: Pick<Silences, 'isSilent'>;
  readonly detours: Pick<Detours, 'has'>;
  /** `gone`: a stopped app has lost its memory, and is not to be woken for it. */
  readonly ownerStopped: 'wake' | 'gone';
}

export function createPresenceOf(parts: PresenceParts): PresenceOf {
  const { directory, silences, detours, ownerStopped } = parts;
  return (machine) => {
    switch (directory.listing(machine)) {
      case 'running':
        if (silences.isSilent(machine)) return 'silent';
        return detours.has(machine) ? 'detoured' : 'running';
      case 'stopped': {
        // Whether it was silent before says nothing now: nobody has tried to wake it.
        const isGone = ownerStopped === 'gone' && directory.isConfirmedStopped(machine);
        return isGone ? 'gone' : 'stopped';
      }
      case 'none':
        return directory.isConfirmedGone(machine) ? 'gone' : 'unlisted';
    }
  };
}
