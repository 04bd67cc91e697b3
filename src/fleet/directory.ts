/** The port to the list of Machines of the fleet. */
import type { MachineId } from '../session.ts';

/** The sidecar of another Machine. */
export interface Peer {
  readonly machine: MachineId;
  /** Its name, for the `Host` header. */
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
 * The Machines of the fleet, read in the background. Lookups answer at once from the last successful
 * reading and never wait for the network. A failed reading changes only the status (invariant 11).
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
  /** Resolves after the first reading, and continues to read in the background; never rejects. */
  start(): Promise<void>;
  /** Reads now if the last reading is older than the interval; waits for a reading in flight. Never rejects. */
  refresh(): Promise<void>;
  /**
   * Reads before the interval is over, to find a Machine that has just started or woken. Not twice
   * within half a second, and waits at most 300 ms. Resolves to whether there is a Machine that was not
   * known, and to undefined if no reading started since has succeeded by then.
   * `isHurried`: a reading of the last half second is enough, and the next one is not waited for.
   */
  findNewMachines(isHurried?: boolean): Promise<boolean | undefined>;
  /** Aborts the reading in flight; no timer or socket is left when it resolves. */
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
