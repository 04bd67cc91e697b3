/** Notices where the sessions of other Machines can't be known, so that an operator hears of it. */
import type { Clock } from '../clock.ts';
import type { Directory, DirectoryStatus } from './directory.ts';

/** How long after the start a list that was never read is no matter of starting any more, in ms. */
export const PATIENCE_MS = 60_000;

/** Ends a look; one that is over is not affected. */
export type StopWatching = () => Promise<void>;

export interface OtherMachinesWatch {
  /** Of the fleet that this Machine would be part of; it is read once. */
  readonly directory: Directory;
  /** Called once if other Machines run, and how many. */
  readonly onOthers: (count: number) => void;
}

/**
 * For a Machine that is alone by configuration: looks once, in the background, whether it really
 * is. A reading that fails says nothing. Returns what ends the look.
 */
export function watchForOtherMachines({ directory, onOthers }: OtherMachinesWatch): StopWatching {
  async function look(): Promise<void> {
    await directory.start();
    const count = directory.others().length;
    if (count > 0) onOthers(count);
    await directory.stop();
  }

  const looked = look();
  return async () => {
    await directory.stop();
    await looked;
  };
}

/** The list of Machines can't be read, or was never answered. */
export type UnreadableFleet = DirectoryStatus & { readonly kind: 'failing' | 'starting' };

export interface UnreadableFleetWatch {
  readonly directory: Pick<Directory, 'status'>;
  readonly clock: Clock;
  /** Called once if a minute after the start the list can't be read. */
  readonly onBlind: (status: UnreadableFleet) => void;
}

/** For a Machine with a fleet: looks once whether it has found it. Returns what ends the look. */
export function watchForUnreadableFleet(lookout: UnreadableFleetWatch): StopWatching {
  const { directory, clock, onBlind } = lookout;
  const cancel = clock.after(PATIENCE_MS, () => {
    const status = directory.status();
    if (status.kind === 'failing' || status.kind === 'starting') onBlind(status);
  });
  return () => {
    cancel();
    return Promise.resolve();
  };
}
