/** The answer's way back: what the app's answer teaches, and how the client may see it. */
import type { DiscoveredId } from '../protocols/protocol.ts';
import type { BodyInspector } from '../protocols/body-inspector.ts';
import { type RequestHead, type ResponseHead, isReplayResponse } from '../protocols/heads.ts';
import type { AffinityCookie } from '../protocols/affinity-cookie.ts';
import type { Decision } from '../routing/decision.ts';
import type { Discoverer } from '../protocols/discoveries.ts';
import { unknownSessionStatus, type ErrorResponse } from '../protocols/error-responses.ts';
import { sessionKeyOf, type MachineId, type SessionKey } from '../session.ts';
import type { Bindings } from './bindings.ts';
import type { Routed } from '../routing/route.ts';

/** How an answer goes out. */
export interface Revealed {
  /** With what was added to them; undefined: the fields of the answer as they came. */
  readonly rawHeaders: readonly string[] | undefined;
  /** Watches the body for the id that it teaches. */
  readonly tap: BodyInspector | undefined;
  /** Sessions of this Machine that the answer belongs to, bound before or by it. */
  readonly sessions: readonly SessionKey[];
  /** The session was claimed for this Machine, and this one has it instead. */
  readonly lostTo: MachineId | undefined;
}

export interface Answers {
  /** The app answered: a promise where a new id must be committed before it is revealed (invariant 2). */
  fromHead(
    request: RequestHead,
    routed: Routed,
    response: ResponseHead,
  ): Revealed | Promise<Revealed>;
  /** Nobody listens at the app's port: the client's cookie is not to bring it here again. */
  ofNobody(answer: ErrorResponse, request: RequestHead, routed: Routed): ErrorResponse;
  /** A body taught an id. Resolves when what reveals it may go out. */
  fromBody(lesson: DiscoveredId): Promise<void>;
}

/** `cookie`: what clients without a session id are to come back by, if there is such a thing. */
export function createAnswers(
  learner: Discoverer,
  bindings: Bindings,
  cookie?: AffinityCookie,
): Answers {
  function fromHead(
    request: RequestHead,
    routed: Routed,
    response: ResponseHead,
  ): Revealed | Promise<Revealed> {
    const lessons = learner.inspectHead(request, routed.ids, response);
    const claim = claimBy(request, routed, response, lessons.hasEnded);
    const used = claim ? routed.key : noteUse(routed, response, lessons.hasEnded);
    const revealed: Revealed = {
      rawHeaders: withCookie(request, routed, response, lessons.rawHeaders),
      tap: lessons.inspector,
      sessions: sessionsOf(used, lessons.discovered),
      lostTo: undefined,
    };
    if (!claim && lessons.discovered.length === 0) return revealed;
    return onceCommitted(revealed, lessons.discovered, claim);
  }

  /** Nothing is revealed before it is committed (invariant 1). */
  async function onceCommitted(
    revealed: Revealed,
    learned: readonly DiscoveredId[],
    claim: Promise<MachineId | undefined> | undefined,
  ): Promise<Revealed> {
    const [lostTo] = await Promise.all([claim, ...learned.map(({ id }) => bindings.learn(id))]);
    if (lostTo === undefined) return revealed;
    return { ...revealed, sessions: sessionsOf(undefined, learned), lostTo };
  }

  /** A session id says more than a cookie: who has one needs no cookie. */
  function withCookie(
    request: RequestHead,
    { ids, decision }: Routed,
    response: ResponseHead,
    changed: readonly string[] | undefined,
  ): readonly string[] | undefined {
    // A client that its app has sent here for one request stays with its Machine.
    const isOfApp = decision.why === 'app-replay';
    if (cookie === undefined || ids.kind !== 'none' || isOfApp) return changed;
    const { statusCode } = response;
    return cookie.addTo({ statusCode, rawHeaders: changed ?? response.rawHeaders }, request);
  }

  /** The claim of an id that its client has brought, if the app accepts it and it may be ours. */
  function claimBy(
    request: RequestHead,
    { key, binding, decision }: Routed,
    response: ResponseHead,
    hasEnded: boolean,
  ): Promise<MachineId | undefined> | undefined {
    if (key === undefined || decision.kind !== 'local' || !decision.mayClaim || hasEnded)
      return undefined;
    const isOurs = binding !== undefined && decision.takeOverFrom === undefined;
    if (isOurs || !accepts(request, response)) return undefined;
    return bindings.adopt(key, decision.takeOverFrom);
  }

  /** What an answer says of the session that the request named: its key if it is in use here. */
  function noteUse(
    { key, binding, decision, ids }: Routed,
    response: ResponseHead,
    hasEnded: boolean,
  ): SessionKey | undefined {
    if (key === undefined || ids.kind !== 'found') return undefined;
    if (hasEnded) {
      bindings.end(key);
      return undefined;
    }
    const isOurs = binding !== undefined && decision.kind === 'local' && !isOthers(decision);
    if (!isOurs) return undefined;
    // "Unknown" unbinds nothing, and is no use either: the row just does not slide.
    const isUnknown = response.statusCode === unknownSessionStatus(ids.protocol);
    if (!isUnknown) bindings.slide(binding);
    return response.statusCode < 400 ? key : undefined;
  }

  function ofNobody(answer: ErrorResponse, request: RequestHead, { ids }: Routed): ErrorResponse {
    if (!cookie || ids.kind !== 'none') return answer;
    return { ...answer, headers: [...answer.headers, ...cookie.expire(request)] };
  }

  return {
    fromHead,
    ofNobody,
    fromBody: ({ id }) => bindings.learn(id),
  };
}

/** Whether what is served here may be the session of another Machine. */
function isOthers(decision: Decision & { readonly kind: 'local' }): boolean {
  return decision.takeOverFrom !== undefined || decision.why === 'app-replay';
}

/** Most answers belong to no session or to one, and are to cost little. */
function sessionsOf(
  used: SessionKey | undefined,
  learned: readonly DiscoveredId[],
): readonly SessionKey[] {
  const inUse = used === undefined ? NO_SESSIONS : [used];
  return learned.length === 0 ? inUse : [...inUse, ...learned.map(({ id }) => sessionKeyOf(id))];
}

const NO_SESSIONS: readonly SessionKey[] = [];

/** Only the app's own acceptance creates a binding (invariant 2 of the design). */
export function accepts(request: RequestHead, response: ResponseHead): boolean {
  if (request.method === 'OPTIONS' || request.method === 'HEAD') return false;
  const { statusCode } = response;
  const isAccepted = (statusCode >= 200 && statusCode < 300) || statusCode === 101;
  return isAccepted && !isReplayResponse(response);
}
