/** The port to the list of Machines of the fleet, and the warnings for an operator whose list is off or unreadable. */
import type { MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';

/** The sidecar of another Machine. */
export interface Peer {
  readonly machine: MachineId;
  /** Its name, for the `Host` header. */
  readonly host: string;
  readonly port: number;
  /** The current IP address; absent while it is unknown. */
  readonly address?: string;
}

/** A peer with all of its addresses, in their canonical spelling. */
export interface ListedPeer {
  readonly peer: Peer;
  readonly addresses: readonly string[];
}

/** A successful reading of the directory that listed this Machine. Monotonic times in ms. */
export interface DirectoryReading {
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  readonly running: ReadonlySet<MachineId>;
  /** Stopped and suspended ones too. */
  readonly deployed: ReadonlySet<MachineId>;
}

/** With the running Machines of the fleet. */
export interface Reading extends DirectoryReading {
  readonly entries: readonly ListedPeer[];
}

/** It is called at the first address. */
export function listedPeer(peer: Peer, addresses: readonly string[]): ListedPeer {
  const [address] = addresses;
  return { peer: address === undefined ? peer : { ...peer, address }, addresses };
}

/**
 * - `off`: there is no fleet, by configuration.
 * - `static`: the fleet is what the configuration lists.
 * - `starting`: no reading has ended yet.
 * - `ok`: the last reading succeeded, at `readAt` (ms since the epoch).
 * - `failing`: no successful reading since `since`; the last reading still applies, but may be out of date.
 */
export type DirectoryStatus =
  | { readonly kind: 'off' }
  | { readonly kind: 'static' }
  | { readonly kind: 'starting' }
  | { readonly kind: 'ok'; readonly readAt: number }
  | { readonly kind: 'failing'; readonly since: number; readonly reason: string };

/**
 * - `running`: it is one of {@link Directory.others}.
 * - `stopped`: deployed and not running; a replay wakes it.
 * - `none`: neither, or unknown.
 */
export type Listing = 'running' | 'stopped' | 'none';

/**
 * The Machines of the fleet, read in the background. Lookups return at once from the last successful
 * reading and never wait for the network. A failed reading changes only the status (invariant 11).
 */
export interface Directory {
  /** Other Machines running at the last successful reading; the same array until the next. */
  others(): readonly Peer[];
  peer(machine: MachineId): Peer | undefined;
  /** Whether a socket's remote address belongs to another Machine of the fleet. */
  isPeerAddress(address: string): boolean;
  /** Whether a socket's remote address belongs to that Machine of the fleet. */
  isAddressOf(machine: MachineId, address: string): boolean;
  status(): DirectoryStatus;
  /** Resolves after the first reading, and continues to read in the background; never rejects. */
  start(): Promise<void>;
  /** Reads now if the last reading is older than the interval; waits for a reading in flight. Never rejects. */
  refresh(): Promise<void>;
  /**
   * Reads before the interval is over, to find a Machine that has just started. Reads at most every half
   * second, and waits at most 300 ms. Resolves to whether it found a new Machine, or to undefined if no
   * reading that started since the call has succeeded by then.
   * `isHurried`: accepts a reading of the last half second, and does not wait for the next one.
   */
  findNewMachines(isHurried?: boolean): Promise<boolean | undefined>;
  /** Aborts the reading in flight; no timer or socket is left when it resolves. */
  stop(): Promise<void>;
}

/** The directory of a Machine without a fleet (`FLEET=off`). */
export const offDirectory: Directory = {
  others: () => [],
  peer: () => undefined,
  findNewMachines: () => Promise.resolve(false),
  isPeerAddress: () => false,
  isAddressOf: () => false,
  status: () => ({ kind: 'off' }),
  start: () => Promise.resolve(),
  refresh: () => Promise.resolve(),
  stop: () => Promise.resolve(),
};

/** Warns if the directory is still unreadable this long after the start, in ms. */
export const WARN_AFTER_MS = 60_000;

/** Resolves when nothing is in flight. */
type StopWatching = () => Promise<void>;

interface OtherMachinesWatch {
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
type UnreadableFleet = DirectoryStatus & { readonly kind: 'failing' | 'starting' };

interface UnreadableFleetWatch {
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
