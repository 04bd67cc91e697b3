/** An attempt at a peer: forwards the request over the private network to the sidecar of another Machine. */
import type { Cancel } from '../clock.ts';
import type { Peer, Directory } from '../fleet/directory.ts';
import type { OutgoingResponse } from '../http/pipe-owner.ts';
import type { ParsedResponseHead } from '../http/response-head.ts';
import { UpstreamPool, type UpstreamPoolOptions } from '../http/upstream-pool.ts';
import type { Decision } from '../routing/decision.ts';
import { unreachable } from '../routing/respond.ts';
import type { Routed } from '../routing/route.ts';
import type { MachineId, SessionKey } from '../session.ts';
import { Attempt, type AttemptedRequest, type AttemptParts } from './attempt.ts';
import { requestToPeer, type AttemptRequestParts } from './attempt-request.ts';
import { readPeerRefusal } from './forwarded-head.ts';
import type { Liveness } from '../fleet/liveness.ts';

export interface PeerAttemptParts extends AttemptParts, AttemptRequestParts {
  readonly peers: { to(peer: Peer): UpstreamPool };
  /** Watches a forward until its response starts: fails it if the peer does not respond to pings. */
  readonly watchForward: (machine: MachineId, onUnresponsive: () => void) => Cancel;
  /** A peer has reported that it does not own a session that this Machine bound to it. */
  readonly onMoved: (key: SessionKey, machine: MachineId) => void;
  /** A forward for this decision got a response from its Machine. */
  readonly onForwarded: (decision: Decision) => void;
}

const PROCESSING = 102;
const AS_IT_CAME: OutgoingResponse = { rawHeaders: undefined };

export class PeerAttempt extends Attempt {
  readonly kind = 'peer';
  readonly #peer: Peer;
  readonly #parts: PeerAttemptParts;
  /** The peer has reported that it received the forward. */
  #isReceived = false;
  #stopWatching: Cancel | undefined;

  constructor(request: AttemptedRequest, peer: Peer, routed: Routed, parts: PeerAttemptParts) {
    const sent = requestToPeer(request, peer, routed, request.takeBody(), parts);
    super(request, routed, parts.peers.to(peer), sent, parts);
    this.#peer = peer;
    this.#parts = parts;
  }

  override start(): void {
    super.start();
    if (this.isClosed) return;
    this.#stopWatching = this.#parts.watchForward(this.#peer.machine, () => this.#onUnresponsive());
  }

  #onUnresponsive(): void {
    try {
      this.pipe.fail('peer-unresponsive', 'the sidecar of the owner does not respond');
    } catch (error) {
      this.request.onFault(error);
    }
  }

  /** With the first 102, the peer reports that it received the forward; the client does not see it. */
  override onInterim(head: ParsedResponseHead): readonly string[] | undefined {
    if (head.statusCode !== PROCESSING || this.#isReceived) return super.onInterim(head);
    this.#isReceived = true;
    return undefined;
  }

  /** The response of the peer's app is not inspected, as the peer has done that; a rejection by the peer is. */
  protected override inspect({
    statusCode,
    rawHeaders,
  }: ParsedResponseHead): OutgoingResponse | undefined {
    this.#stopWatching?.();
    const { decision, owner, key } = this.routed;
    const refusal = readPeerRefusal(statusCode, rawHeaders);
    if (!refusal) {
      this.#parts.onForwarded(decision);
      return AS_IT_CAME;
    }
    // A rejection by the place of a session proves nothing about the session's owner.
    const isOfOwner = owner !== undefined && decision.kind === 'forward' && decision.to === owner;
    if (refusal === 'moved' && isOfOwner && key) this.#parts.onMoved(key, owner);
    this.request.respondInstead(unreachable(this.routed));
    return undefined;
  }

  override close(): void {
    super.close();
    this.#stopWatching?.();
  }
}

/* Connections for forwards, one pool per Machine, because Fly.io reuses addresses. */

export interface PeerUpstreams {
  to(peer: Peer): UpstreamPool;
  /** Drops idle connections, which may be dead: this Machine was suspended. */
  reconnect(): void;
  close(): Promise<void>;
}

interface PeerUpstreamsOptions {
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
    for (const [machine, pool] of pools) if (!directory.peer(machine)) retire(machine, pool);
  }

  function retire(machine: MachineId, pool: UpstreamPool): void {
    pools.delete(machine);
    retired.add(pool);
    void pool.retire().then(() => retired.delete(pool));
  }

  function reconnect(): void {
    for (const [machine, pool] of pools) retire(machine, pool);
  }

  async function close(): Promise<void> {
    const all = [...pools.values(), ...retired];
    pools.clear();
    await Promise.all(all.map((pool) => pool.close()));
  }

  return { to, reconnect, close };
}
