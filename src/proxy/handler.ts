/** The request's way, top to bottom: facts -> owner -> decision (`route.ts`) -> local, forward or respond. */
import type { Decision } from '../routing/decision.ts';
import type { ErrorResponse } from '../protocols/error-responses.ts';
import type { MachineId } from '../session.ts';
import type { Directory, Peer } from '../fleet/directory.ts';
import { parseReplayFailure, type ReplayFailureReason } from '../fly.ts';
import type { MalformedRequest } from '../http/request-head.ts';
import { createReplies, ofDecision, unreachable } from '../routing/respond.ts';
import {
  createRoute,
  unrouted,
  type ArrivedRequest,
  type RouteParts,
  type Routed,
} from '../routing/route.ts';

export type { Routed } from '../routing/route.ts';

/** One request, and what can be done with it. */
export interface RoutedRequest extends ArrivedRequest {
  /** Responds in the sidecar's own name. */
  respond(refusal: ErrorResponse, routed: Routed): void;
  /** Responds to a request that can't be understood, and ends its connection. */
  refuseMalformed(why: MalformedRequest, routed: Routed): void;
  /** Hands the request to the app. */
  toUpstream(routed: Routed): void;
  /** Hands the request to the sidecar of another Machine, hints and all. */
  toPeer(peer: Peer, routed: Routed): void;
  /** An exception while it was routed: ends the request and its connection. */
  onFault(error: unknown): void;
}

export interface HandlerParts extends RouteParts {
  readonly directory: Pick<Directory, 'others' | 'peer' | 'findNewMachines'>;
  readonly replayTimeoutMs: number;
  /** A request has come back undelivered, or pretends to. */
  readonly onReplayFailed: (reason: ReplayFailureReason | 'other') => void;
}

/** Why a request is refused before it is routed. */
export type EarlyRefusal = 'loop-detected' | 'overloaded';

export interface Handler {
  handle(request: RoutedRequest): void;
  /** Refuses a request that can't be understood. */
  refuse(request: RoutedRequest, why: MalformedRequest): void;
  refuseEarly(request: RoutedRequest, why: EarlyRefusal): void;
  /** A forward found nobody: 503, the binding untouched, as silence proves nothing (invariant 11). */
  unreachable(request: RoutedRequest, routed: Routed): void;
  /**
   * Another Machine has turned out to own the session, and nothing was revealed yet: the request goes
   * there, by a replay or a forward.
   */
  bringToWinner(request: RoutedRequest, routed: Routed, winner: MachineId): void;
  /** The Machine on which the session was placed can't be reached, and nothing was sent: it is begun here. */
  serveHere(request: RoutedRequest, routed: Routed): void;
  /**
   * The app has refused a request, so this Machine takes no new ones now: one without an id is
   * decided again, and goes to another Machine if it may. Says whether it does.
   */
  sendElsewhere(request: RoutedRequest, routed: Routed): boolean;
}

export function createHandler(parts: HandlerParts): Handler {
  const { self, onReplayFailed } = parts;
  const route = createRoute(parts);
  const replies = createReplies(parts);

  function handle(request: RoutedRequest): void {
    const { replayFailed } = request.fields;
    if (replayFailed !== undefined && request.from === 'edge') {
      onReplayFailed(parseReplayFailure(replayFailed).reason ?? 'other');
    }
    const routed = route(request);
    if (!(routed instanceof Promise)) act(request, routed);
    else {
      routed
        .then((settled) => act(request, settled))
        .catch((error: unknown) => request.onFault(error));
    }
  }

  function act(request: RoutedRequest, routed: Routed): void {
    const reply = replies.to(routed);
    switch (reply.kind) {
      case 'upstream':
        request.toUpstream(routed);
        break;
      case 'peer':
        request.toPeer(reply.peer, routed);
        break;
      case 'answer':
        request.respond(reply.answer, routed);
        break;
    }
  }

  function refuse(request: RoutedRequest, why: MalformedRequest): void {
    const routed = unrouted({ kind: 'refuse', status: 400, why: 'malformed-request' });
    request.refuseMalformed(why, routed);
  }

  function refuseEarly(request: RoutedRequest, why: EarlyRefusal): void {
    const status = why === 'loop-detected' ? 508 : 503;
    const routed = unrouted({ kind: 'refuse', status, why });
    request.respond(ofDecision(status, why, routed.extraction), routed);
  }

  function sendElsewhere(request: RoutedRequest, { extraction }: Routed): boolean {
    const again = extraction.kind === 'none' ? route(request) : undefined;
    if (!again || again instanceof Promise || again.decision.kind !== 'elsewhere') return false;
    act(request, again);
    return true;
  }

  function bringToWinner(request: RoutedRequest, routed: Routed, to: MachineId): void {
    const decision = decideLost(request.from, routed.mayReplay, to);
    act(request, { ...routed, decision, owner: to });
  }

  /** Whom it could not reach may have the session all the same: only its own word would rule that out. */
  function serveHere(request: RoutedRequest, routed: Routed): void {
    const owner = routed.binding?.machine;
    // That Machine would have refused it, or known it.
    if (owner === undefined && parts.policy.unknownSession === 'reject') {
      request.respond(unreachable(routed), routed);
      return;
    }
    const isTakenOver = owner !== undefined && owner !== self;
    const decision: Decision = {
      ...{ kind: 'local', why: 'placed', mayClaim: true },
      ...(isTakenOver ? { takeOverFrom: owner } : { isInDoubt: true }),
    };
    act(request, { ...routed, decision });
  }

  return {
    handle,
    refuse,
    refuseEarly,
    unreachable: (request, routed) => request.respond(unreachable(routed), routed),
    sendElsewhere,
    bringToWinner,
    serveHere,
  };
}

/** A peer that has forwarded it is told: its own next request finds the winner. */
function decideLost(from: 'edge' | 'peer', mayReplay: boolean, to: MachineId): Decision {
  if (from === 'peer') return { kind: 'refuse', status: 421, why: 'moved' };
  if (!mayReplay) return { kind: 'forward', to, why: 'claim-lost' };
  return { kind: 'replay', to, why: 'claim-lost', form: 'resilient', invalidatesCache: false };
}
