/** Turns a decision into an action: local, a forward to a peer, or a response of this sidecar. */
import type { Directory, Peer } from '../fleet/directory.ts';
import { formatReplay, type ReplayInstruction } from '../fly.ts';
import {
  errorResponseFor,
  type ErrorResponse,
  type ErrorStatus,
} from '../protocols/error-responses.ts';
import type { RequestIds } from '../protocols/request-ids.ts';
import type { MachineId } from '../session.ts';
import type { ReplayForm, Why } from './decision.ts';
import { REPLAY_MARK, replayMarkWith } from './replay-state.ts';
import type { Routed } from './route.ts';

/** How long the edge tries to reach an owner that is unresponsive to this Machine, in ms at most. */
const BRIEF_REPLAY_MS = 1_000;
/** How long it tries to reach a running owner, in ms, which responds at once or not at all. */
const RUNNING_REPLAY_MS = 3_000;
/** Any status works: the edge discards it when it replays. */
const REPLAY_STATUS = 307;
const MAX_KEPT_REPLAYS = 256;

interface ActionsParts {
  readonly directory: Pick<Directory, 'peer'>;
  readonly replayTimeoutMs: number;
}

export type Action =
  | { readonly kind: 'local' }
  | { readonly kind: 'forward'; readonly peer: Peer }
  | { readonly kind: 'respond'; readonly response: ErrorResponse };

const LOCAL: Action = { kind: 'local' };

/** `span`: of this request, if it is traced; a replay carries it to the next sidecar. */
export type ActionFor = (routed: Routed, span?: string) => Action;

export function createActions({ directory, replayTimeoutMs }: ActionsParts): ActionFor {
  const within = (timeoutMs: number): ReplayInstruction => ({
    state: REPLAY_MARK,
    timeoutMs: Math.min(timeoutMs, replayTimeoutMs),
    fallback: 'prefer_self',
  });
  const forms: Readonly<Record<ReplayForm, ReplayInstruction>> = {
    resilient: within(RUNNING_REPLAY_MS),
    waking: within(replayTimeoutMs),
    brief: within(BRIEF_REPLAY_MS),
    bare: {},
  };
  const toAnother = { ...forms.waking, isElsewhere: true, fallback: 'force_self' } as const;
  const elsewhere = replay(toAnother);
  const kept = new Map<string, ErrorResponse>();

  /** HOT PATH. */
  function actionFor(routed: Routed, span?: string): Action {
    const { decision } = routed;
    switch (decision.kind) {
      case 'local':
        return LOCAL;
      case 'replay': {
        const response = replayTo(decision.to, decision.form, span);
        return respond(decision.invalidatesCache ? invalidating(response) : response);
      }
      case 'elsewhere':
        return respond(
          span === undefined ? elsewhere : replay({ ...toAnother, state: replayMarkWith(span) }),
        );
      case 'forward': {
        const peer = directory.peer(decision.to);
        return peer ? { kind: 'forward', peer } : respond(unreachable(routed));
      }
      case 'refuse':
        return respond(errorResponse(decision.status, decision.why, routed.ids));
    }
  }

  /** Caches the few replays that repeat; a client may name any Machine, so the cache is bounded. */
  function replayTo(instance: MachineId, form: ReplayForm, span?: string): ErrorResponse {
    if (span !== undefined && form !== 'bare')
      return replay({ instance, ...forms[form], state: replayMarkWith(span) });
    const name = `${form} ${instance}`;
    const known = kept.get(name);
    if (known) return known;
    const made = replay({ instance, ...forms[form] });
    if (kept.size < MAX_KEPT_REPLAYS) kept.set(name, made);
    return made;
  }

  return actionFor;
}

function respond(response: ErrorResponse): Action {
  return { kind: 'respond', response };
}

/** A forward failed: 503. The binding stays, as silence is not evidence (invariant 11). */
export function unreachable({ decision, ids }: Routed): ErrorResponse {
  return errorResponse(503, decision.why, ids);
}

function replay(instruction: ReplayInstruction): ErrorResponse {
  return { status: REPLAY_STATUS, headers: ['fly-replay', formatReplay(instruction)], body: '' };
}

/**
 * Removes the edge's cache entry that led the request here. Only the response to such a request can do
 * that: a session that ends or moves stays cached until the next request, or until the entry expires.
 */
function invalidating({ headers, ...response }: ErrorResponse): ErrorResponse {
  return { ...response, headers: [...headers, 'fly-replay-cache', 'invalidate'] };
}

/** The body follows the session's protocol. */
export function errorResponse(status: ErrorStatus, why: Why, ids: RequestIds): ErrorResponse {
  return errorResponseFor(status, why, ids.kind === 'found' ? ids.protocol : undefined);
}
