/** What this Machine answers in its own name: replays for the edge, refusals for the client. */
import type { ReplayForm, Why } from './decision.ts';
import type { RequestIds } from '../protocols/request-ids.ts';
import {
  errorResponseFor,
  type ErrorResponse,
  type ErrorStatus,
} from '../protocols/error-responses.ts';
import type { MachineId } from '../session.ts';
import type { Directory, Peer } from '../fleet/directory.ts';
import { formatReplay, REPLAY_MARK, type ReplayInstruction } from '../fly.ts';
import type { Routed } from './route.ts';

/** How long the edge tries to reach an owner that has just not answered us at most, in ms. */
export const BRIEF_REPLAY_MS = 1_000;
/** How long it tries to reach one that runs, in ms: it answers at once or not at all. */
export const RUNNING_REPLAY_MS = 3_000;
/** Rather a replay that the edge makes than one more round trip of ours: the status is thrown away. */
const REPLAY_STATUS = 307;
const MAX_KEPT_REPLAYS = 256;

export interface RepliesParts {
  readonly directory: Pick<Directory, 'peer'>;
  readonly replayTimeoutMs: number;
}

/** Who answers a request: the app, the sidecar of another Machine, or we ourselves. */
export type Reply =
  | { readonly kind: 'upstream' }
  | { readonly kind: 'peer'; readonly peer: Peer }
  | { readonly kind: 'answer'; readonly answer: ErrorResponse };

export interface Replies {
  to(routed: Routed): Reply;
}

const UPSTREAM: Reply = { kind: 'upstream' };

export function createReplies({ directory, replayTimeoutMs }: RepliesParts): Replies {
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
  const elsewhere = replay({ ...forms.waking, isElsewhere: true, fallback: 'force_self' });
  const kept = new Map<string, ErrorResponse>();

  function to(routed: Routed): Reply {
    const { decision } = routed;
    switch (decision.kind) {
      case 'local':
        return UPSTREAM;
      case 'replay': {
        const answer = replayTo(decision.to, decision.form);
        return answerWith(decision.invalidatesCache ? invalidating(answer) : answer);
      }
      case 'elsewhere':
        return answerWith(elsewhere);
      case 'forward': {
        const peer = directory.peer(decision.to);
        return peer ? { kind: 'peer', peer } : answerWith(unreachable(routed));
      }
      case 'refuse':
        return answerWith(ofDecision(decision.status, decision.why, routed.extraction));
    }
  }

  /** The same few texts again and again; a client may name any Machine, so not all are kept. */
  function replayTo(instance: MachineId, form: ReplayForm): ErrorResponse {
    const name = `${form} ${instance}`;
    const known = kept.get(name);
    if (known) return known;
    const made = replay({ instance, ...forms[form] });
    if (kept.size < MAX_KEPT_REPLAYS) kept.set(name, made);
    return made;
  }

  return { to };
}

function answerWith(answer: ErrorResponse): Reply {
  return { kind: 'answer', answer };
}

/** A forward found nobody: 503, the binding untouched, as silence proves nothing (invariant 11). */
export function unreachable({ decision, extraction }: Routed): ErrorResponse {
  return ofDecision(503, decision.why, extraction);
}

function replay(instruction: ReplayInstruction): ErrorResponse {
  return { status: REPLAY_STATUS, headers: ['fly-replay', formatReplay(instruction)], body: '' };
}

/**
 * Undoes the entry of the edge's cache that has brought the request here. Only the answer to such a
 * request can: a session that ends or moves stays cached until the next one comes, or its time is up.
 */
function invalidating({ headers, ...answer }: ErrorResponse): ErrorResponse {
  return { ...answer, headers: [...headers, 'fly-replay-cache', 'invalidate'] };
}

/** The response that refuses a request, in the form of its session's protocol. */
export function ofDecision(status: ErrorStatus, why: Why, extraction: RequestIds): ErrorResponse {
  return errorResponseFor(
    status,
    why,
    extraction.kind === 'found' ? extraction.protocol : undefined,
  );
}
