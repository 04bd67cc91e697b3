/** The directory that the configuration lists: for tests, and for fleets outside Fly.io. */
import type { MachineId } from '../session.ts';
import type { Cancel, Clock } from '../clock.ts';
import { MachineAddresses, normalizeAddress } from './addresses.ts';
import { listedPeer, type Directory, type ListedPeer, type Peer } from './directory.ts';
import type { Liveness } from './liveness.ts';

/** One Machine as configured: `host` is an IP address or a name. */
type StaticEntry = Pick<Peer, 'machine' | 'host' | 'port'>;

interface StaticDirectoryOptions {
  readonly self: MachineId;
  /** The fleet; this Machine may be among them. */
  readonly entries: readonly StaticEntry[];
  /** Addresses of a host by its name; rejects if there are none. */
  readonly lookup: (host: string) => Promise<readonly string[]>;
  /** Stores the list. */
  readonly liveness: Liveness;
  readonly clock: Clock;
  /** Called once, by the first reading that lists other Machines, which waits for it. Never rejects. */
  readonly onOthers?: () => Promise<void>;
}

/** Names are resolved again after this many ms. */
const INTERVAL_MS = 30_000;

/**
 * Lists the configured Machines, whether or not they run. So the list never proves that a Machine is
 * gone; refused connections may (`gone-machines.ts`). Host names are resolved in the background, as they may
 * move to another address. A name that can't be resolved keeps its last address.
 */
export function createStaticDirectory(options: StaticDirectoryOptions): Directory {
  const { clock, liveness, lookup } = options;
  const entries = options.entries.filter(({ machine }) => machine !== options.self);
  const addresses = new MachineAddresses({
    resolve: async (machine) => {
      const host = entries.find((entry) => entry.machine === machine)?.host ?? '';
      return normalizeAddress(host) === undefined ? lookup(host) : [host];
    },
    readingsKept: 1,
  });
  liveness.onList(listedPeers(entries, new Map()));
  let cancelNext: Cancel | undefined;
  let inFlight: Promise<void> | undefined;
  let isDue = true;
  let hadOthers = false;

  async function lookUpAll(): Promise<void> {
    const ofMachines = await addresses.of(entries.map(({ machine }) => machine));
    liveness.onList(listedPeers(entries, ofMachines));
    if (hadOthers || entries.length === 0) return;
    hadOthers = true;
    await options.onOthers?.();
  }

  function lookUp(): void {
    isDue = false;
    cancelNext = clock.after(INTERVAL_MS, () => {
      isDue = true;
      void refresh();
    });
    inFlight = lookUpAll().finally(() => (inFlight = undefined));
  }

  async function refresh(): Promise<void> {
    await inFlight;
    if (isDue) lookUp();
    await inFlight;
  }

  return {
    others: () => liveness.others(),
    peer: (machine) => liveness.peer(machine),
    isPeerAddress: (address) => liveness.isPeerAddress(address),
    isAddressOf: (machine, address) => liveness.isAddressOf(machine, address),
    findNewMachines: () => Promise.resolve(false),
    status: () => ({ kind: 'static' }),
    start: refresh,
    refresh,
    stop: async () => {
      isDue = false;
      cancelNext?.();
      await inFlight;
    },
  };
}

function listedPeers(
  entries: readonly StaticEntry[],
  addresses: ReadonlyMap<MachineId, readonly string[]>,
): ListedPeer[] {
  return entries.map(({ machine, host, port }) =>
    listedPeer({ machine, host, port }, addresses.get(machine) ?? []),
  );
}
