/** IP addresses of Machines: their canonical form, and the addresses of each Machine by name. */
import { isIP, SocketAddress } from 'node:net';
import type { MachineId } from '../session.ts';

/** An IPv6 address that stands for an IPv4 one (RFC 4291 §2.5.5.2): a dual-stack socket has these. */
const MAPPED_IPV4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/;

/**
 * The canonical form, so that a socket's remote address can be compared with a DNS record: without a
 * zone, and mapped IPv4 addresses as IPv4. Undefined if the text is not an address.
 */
export function normalizeAddress(text: string): string | undefined {
  const withoutZone = text.split('%', 1)[0] ?? '';
  const version = isIP(withoutZone);
  if (version === 0) return undefined;
  if (version === 4) return withoutZone;
  const { address } = new SocketAddress({ address: withoutZone, family: 'ipv6' });
  return MAPPED_IPV4.exec(address)?.[1] ?? address;
}

interface MachineAddressesOptions {
  /** Addresses of one Machine, in any spelling; rejects if there are none. */
  readonly resolve: (machine: MachineId) => Promise<readonly string[]>;
  /** After this many readings the addresses of a Machine are resolved again. */
  readonly readingsKept?: number;
}

/** `FLY_PRIVATE_IP` can change when a Machine reboots, sometimes faster than it leaves the list. */
const READINGS_KEPT = 3;

interface ResolvedAddresses {
  readonly addresses: readonly string[];
  readonly resolvedAtReading: number;
}

/** The private addresses of Machines by their names, kept from reading to reading. */
export class MachineAddresses {
  readonly #options: MachineAddressesOptions;
  #known = new Map<MachineId, ResolvedAddresses>();
  #reading = 0;

  constructor(options: MachineAddressesOptions) {
    this.#options = options;
  }

  /**
   * Addresses of these Machines, in their canonical spelling; empty where none is known. Forgets all
   * other Machines. Never rejects: if the name server fails, the last addresses stay.
   */
  async of(machines: readonly MachineId[]): Promise<ReadonlyMap<MachineId, readonly string[]>> {
    this.#reading += 1;
    const found = await Promise.all(
      machines.map(async (machine) => [machine, await this.#refresh(machine)] as const),
    );
    this.#known = new Map(found);
    return new Map(found.map(([machine, { addresses }]) => [machine, addresses]));
  }

  async #refresh(machine: MachineId): Promise<ResolvedAddresses> {
    const { resolve, readingsKept = READINGS_KEPT } = this.#options;
    const before = this.#known.get(machine);
    if (before && this.#reading - before.resolvedAtReading < readingsKept) return before;
    try {
      const resolved = await resolve(machine);
      const addresses = resolved.flatMap((address) => normalizeAddress(address) ?? []);
      return { addresses, resolvedAtReading: this.#reading };
    } catch {
      // A Machine may be listed shortly before its name exists, or shortly after.
      return before ?? { addresses: [], resolvedAtReading: -Infinity };
    }
  }
}
