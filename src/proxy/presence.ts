/** What is known of a Machine at once: from the directory, and from what this one has met itself. */
import type { Presence } from '../affinity/decide.ts';
import type { MachineId } from '../affinity/session.ts';
import type { Directory } from '../fleet/directory.ts';
import type { Silences } from '../fleet/silences.ts';

export type PresenceOf = (machine: MachineId) => Presence;

export interface PresenceParts {
  readonly directory: Pick<Directory, 'isConfirmedGone' | 'isConfirmedStopped' | 'listing'>;
  readonly silences: Pick<Silences, 'isSilent'>;
  /** `gone`: a stopped app has lost its memory, and is not to be woken for it. */
  readonly ownerStopped: 'wake' | 'gone';
}

export function createPresenceOf({ directory, silences, ownerStopped }: PresenceParts): PresenceOf {
  return (machine) => {
    switch (directory.listing(machine)) {
      case 'running':
        return silences.isSilent(machine) ? 'silent' : 'running';
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
