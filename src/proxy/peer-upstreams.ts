/** Connections for forwards, one pool per Machine, because Fly.io reuses addresses. */
import type { MachineId } from '../session.ts';
import type { Directory, Peer } from '../fleet/directory.ts';
import type { Liveness } from '../fleet/liveness.ts';
import { UpstreamPool, type UpstreamPoolOptions } from '../http/upstream-pool.ts';

export interface PeerUpstreams {
  to(peer: Peer): UpstreamPool;
  close(): Promise<void>;
}

export interface PeerUpstreamsOptions {
  readonly directory: Pick<Directory, 'peer'>;
  /** Receives the results of connection attempts. */
  readonly liveness: Pick<Liveness, 'onConnected' | 'onNoResponse'>;
  readonly pool: Omit<UpstreamPoolOptions, 'address' | 'onDialled'>;
}

export function createPeerUpstreams(options: PeerUpstreamsOptions): PeerUpstreams {
  const { directory, liveness, pool: poolOptions } = options;
  const pools = new Map<MachineId, UpstreamPool>();
  const retired = new Set<UpstreamPool>();

  function to({ machine, port }: Peer): UpstreamPool {
    const known = pools.get(machine);
    if (known) return known;
    retireTheGone();
    const pool = new UpstreamPool({
      ...poolOptions,
      // From the directory, which is read in the background, never from the system's resolver.
      address: () => {
        const host = directory.peer(machine)?.address;
        return host === undefined ? undefined : { host, port };
      },
      onDialled: (outcome) => {
        if (outcome === 'connected') liveness.onConnected(machine);
        // The heartbeats report refused connections.
        else liveness.onNoResponse(machine);
      },
    });
    pools.set(machine, pool);
    return pool;
  }

  /** One reading without a Machine must not close the forwards in flight to it. */
  function retireTheGone(): void {
    for (const [machine, pool] of pools) {
      if (directory.peer(machine)) continue;
      pools.delete(machine);
      retired.add(pool);
      void pool.retire().then(() => retired.delete(pool));
    }
  }

  async function close(): Promise<void> {
    const all = [...pools.values(), ...retired];
    pools.clear();
    await Promise.all(all.map((pool) => pool.close()));
  }

  return { to, close };
}
