/** The port: which other Machines are in the fleet, and who is not any more. */
import type { MachineId } from '../session.ts';

/** The sidecar of another Machine. */
export interface Peer {
  readonly machine: MachineId;
  /** Its name, as the `Host` header of what is sent to it says. */
  readonly host: string;
  readonly port: number;
  /** IP address to connect to, as known now; absent while it is not known. */
  readonly address?: string;
}

/**
 * - `off`: there is no fleet, by configuration.
 * - `static`: the fleet is what the configuration lists.
 * - `starting`: no reading has ended yet.
 * - `ok`: the last reading succeeded, at `readAt` (ms since the epoch).
 * - `failing`: no successful reading since `since`; what was read before is kept, but it may be old.
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
 * - `none`: neither, or not known.
 */
export type Listing = 'running' | 'stopped' | 'none';

/**
 * Who is in the fleet, read in the background. Every question is answered at once out of the last
 * successful reading: nothing here waits for the network, and a failed reading changes nothing but
 * the status (invariant 11).
 */
export interface Directory {
  /** Other Machines running at the last successful reading; the same array until the next. */
  others(): readonly Peer[];
  peer(machine: MachineId): Peer | undefined;
  /** Whether a socket's remote address belongs to another Machine of the fleet. */
  isPeerAddress(address: string): boolean;
  /** Whether a socket's remote address belongs to that very Machine, another one of the fleet. */
  isAddressOf(machine: MachineId, address: string): boolean;
  status(): DirectoryStatus;
  /** Makes the first reading and goes on reading in the background; never rejects. */
  start(): Promise<void>;
  /** Reads now if the last reading is older than the interval, and joins one under way. Never rejects. */
  refresh(): Promise<void>;
  /**
   * Reads though the interval is not over, but not twice within half a second, and waits 300 ms for
   * it at most: for a Machine that has just started or woken. Says whether there is one that was not
   * known; undefined if no reading begun since has succeeded by then, as then nobody can tell.
   * `isHurried`: a reading of the last half second will do, and nobody waits for the next.
   */
  findNewMachines(isHurried?: boolean): Promise<boolean | undefined>;
  /** Ends the reading under way; no timer or socket is left when it resolves. */
  stop(): Promise<void>;
}

/** The directory of a Machine that is alone by configuration. */
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
