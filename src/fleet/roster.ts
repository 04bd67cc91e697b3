/** The Machines of one reading, indexed the ways in which they are asked for. */
import type { MachineId } from '../affinity/session.ts';
import { normalizeAddress } from './address.ts';
import type { Peer } from './directory.ts';

/** A peer with all of its addresses, in their canonical spelling. */
export interface RosterEntry {
  readonly peer: Peer;
  readonly addresses: readonly string[];
}

/** Answers for the same names in a directory. */
export interface Roster {
  others(): readonly Peer[];
  peer(machine: MachineId): Peer | undefined;
  lists(address: string): boolean;
  isAddressOf(machine: MachineId, address: string): boolean;
}

export function createRoster(entries: readonly RosterEntry[]): Roster {
  const others = entries.map(({ peer }) => peer);
  const entryOf = new Map(entries.map((entry) => [entry.peer.machine, entry]));
  const addresses = new Set(entries.flatMap((entry) => entry.addresses));

  return {
    others: () => others,
    peer: (machine) => entryOf.get(machine)?.peer,
    lists: (address) => {
      const normalized = normalizeAddress(address);
      return normalized !== undefined && addresses.has(normalized);
    },
    isAddressOf: (machine, address) => {
      const normalized = normalizeAddress(address);
      return (
        normalized !== undefined && (entryOf.get(machine)?.addresses.includes(normalized) ?? false)
      );
    },
  };
}
