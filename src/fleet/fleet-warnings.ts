/** Warns the operator of other Machines whose sessions this one can't find, or of an unreadable fleet. */
import type { Clock } from '../clock.ts';
import type { Directory, DirectoryStatus } from './directory.ts';

/** Warns if the directory is still unreadable this long after the start, in ms. */
export const WARN_AFTER_MS = 60_000;

/** Resolves when nothing is in flight. */
export type StopWatching = () => Promise<void>;

export interface OtherMachinesWatch {
  /** The directory of the fleet that this Machine would belong to; read once. */
  readonly directory: Directory;
  /** Called once if other Machines run, with their number. */
  readonly onOthers: (count: number) => void;
}

/**
 * For a Machine with `FLEET=off`: checks once, in the background, whether other Machines run. A failed
 * reading proves nothing.
 */
export function watchForOtherMachines({ directory, onOthers }: OtherMachinesWatch): StopWatching {
  async function check(): Promise<void> {
    await directory.start();
    const count = directory.others().length;
    if (count > 0) onOthers(count);
    await directory.stop();
  }

  const checked = check();
  return async () => {
    await directory.stop();
    await checked;
  };
}

/** The directory can't be read now, or was never read. */
export type UnreadableFleet = DirectoryStatus & { readonly kind: 'failing' | 'starting' };

export interface UnreadableFleetWatch {
  readonly directory: Pick<Directory, 'status'>;
  readonly clock: Clock;
  /** Called once if the directory can't be read a minute after the start. */
  readonly onUnreadable: (status: UnreadableFleet) => void;
}

/** For a Machine with a fleet: checks once whether it has found it. */
export function watchForUnreadableFleet(watch: UnreadableFleetWatch): StopWatching {
  const { directory, clock, onUnreadable } = watch;
  const cancel = clock.after(WARN_AFTER_MS, () => {
    const status = directory.status();
    if (status.kind === 'failing' || status.kind === 'starting') onUnreadable(status);
  });
  return () => {
    cancel();
    return Promise.resolve();
  };
}
