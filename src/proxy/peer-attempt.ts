/** The sidecar of another Machine serves a request, which is forwarded to it over the private network. */
import type { Cancel } from '../clock.ts';
import type { Peer } from '../fleet/directory.ts';
import type { OutgoingResponse } from '../http/response-pipe.ts';
import type { ParsedResponseHead } from '../http/response-head.ts';
import type { UpstreamPool } from '../http/upstream-pool.ts';
import type { Decision } from '../routing/decision.ts';
import { unreachable } from '../routing/respond.ts';
import type { Routed } from '../routing/route.ts';
import type { MachineId, SessionKey } from '../session.ts';
import { Attempt, type AttemptedRequest, type AttemptParts } from './attempt.ts';
import { readPeerRefusal } from './forward-head.ts';
import { requestToPeer, type UpstreamRequestParts } from './upstream-request.ts';

export interface PeerAttemptParts extends AttemptParts, UpstreamRequestParts {
  readonly peers: { to(peer: Peer): UpstreamPool };
  /** Watches a forward until its response begins: fails it if its peer does not respond at all. */
  readonly watchForward: (machine: MachineId, onUnresponsive: () => void) => Cancel;
  /** A peer has said that a session is not its own, as this Machine had thought. */
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
  /** The peer has said that it has taken the forward. */
  #isTaken = false;
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

  /** The first 102 is the peer's word that it has taken the forward, for this sidecar alone. */
  override onInterim(head: ParsedResponseHead): readonly string[] | undefined {
    if (head.statusCode !== PROCESSING || this.#isTaken) return super.onInterim(head);
    this.#isTaken = true;
    return undefined;
  }

  /** A forwarded response is not inspected, as its owner has done that; a peer's own refusal is. */
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
    // Who refuses a session that was placed on it says nothing of the owner that it was taken from.
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
