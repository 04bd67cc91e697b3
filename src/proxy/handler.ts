/**
 * The request's way, top to bottom: facts -> owner -> decision (`route.ts`) -> reply. The wires (HTTP
 * and WebSocket) differ in how they carry an answer, never in which one.
 */
import type { Decision, Why } from '../affinity/decide.ts';
import type { Refusal } from '../affinity/refuse.ts';
import type { Directory, Peer } from '../fleet/directory.ts';
import { parseReplayFailure, type ReplayFailureReason } from '../fly.ts';
import { createReplies, unreachable } from './replies.ts';
import { createRoute, unrouted, type Arrived, type RouteParts, type Routed } from './route.ts';

export type { Routed } from './route.ts';

/** One request, as its wire shows it, and what a wire can do with it. */
export interface Wire extends Arrived {
  /** Answers in our own name. */
  reply(answer: Refusal, routed: Routed): void;
  /** Hands the request to the app. */
  toUpstream(routed: Routed): void;
  /** Hands the request to the sidecar of another Machine, hints and all. */
  toPeer(peer: Peer, routed: Routed): void;
}

export interface HandlerParts extends RouteParts {
  readonly directory: Pick<Directory, 'others' | 'peer'>;
  readonly replayTimeoutMs: number;
  readonly onDecided: (decision: Decision) => void;
  /** A request has come back undelivered, or pretends to. */
  readonly onReplayFailed: (reason: ReplayFailureReason | 'other') => void;
}

export interface Handler {
  handle(wire: Wire): void;
  /** Refuses a request that can't be understood, in the same form as every other answer. */
  refuse(wire: Wire, why: Why): void;
  /** A forward found nobody: 503, the binding untouched, as silence proves nothing (invariant 11). */
  unreachable(wire: Wire, routed: Routed): void;
  /**
   * The app has refused a request, so this Machine takes no new ones now: one without an id is
   * decided again, and goes to another Machine if it may. Says whether it does.
   */
  sendElsewhere(wire: Wire, routed: Routed): boolean;
}

export function createHandler(parts: HandlerParts): Handler {
  const { onDecided, onReplayFailed } = parts;
  const route = createRoute(parts);
  const replies = createReplies(parts);

  function handle(wire: Wire): void {
    const { replayFailed } = wire.fields;
    if (replayFailed !== undefined && wire.from === 'edge') {
      onReplayFailed(parseReplayFailure(replayFailed).reason ?? 'other');
    }
    const routed = route(wire);
    if (routed instanceof Promise) void routed.then((settled) => act(wire, settled));
    else act(wire, routed);
  }

  function act(wire: Wire, routed: Routed): void {
    onDecided(routed.decision);
    const reply = replies.to(routed);
    switch (reply.kind) {
      case 'upstream':
        wire.toUpstream(routed);
        break;
      case 'peer':
        wire.toPeer(reply.peer, routed);
        break;
      case 'answer':
        wire.reply(reply.answer, routed);
        break;
    }
  }

  function sendElsewhere(wire: Wire, { extraction }: Routed): boolean {
    const again = extraction.kind === 'none' ? route(wire) : undefined;
    if (!again || again instanceof Promise || again.decision.kind !== 'elsewhere') return false;
    act(wire, again);
    return true;
  }

  return {
    handle,
    refuse: (wire, why) => act(wire, unrouted({ kind: 'refuse', status: 400, why })),
    unreachable: (wire, routed) => wire.reply(unreachable(routed), routed),
    sendElsewhere,
  };
}
