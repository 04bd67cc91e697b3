/** What a response of the app reveals of sessions, and how the client may see it. */
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

export interface InspectedResponse {
  /** With what was added to them; undefined: the fields as they came. */
  readonly rawHeaders: readonly string[] | undefined;
  /** Discovers an id in the body. */
  readonly inspector: BodyInspector | undefined;
  /** Sessions of this Machine that the response belongs to, bound before or by it. */
  readonly sessions: readonly SessionKey[];
  /** The owner that has the session which this Machine wanted to claim. */
  readonly lostTo: MachineId | undefined;
}

const NO_SESSIONS: readonly SessionKey[] = [];
/** Most responses reveal nothing. */
const AS_IT_CAME: InspectedResponse = {
  rawHeaders: undefined,
  inspector: undefined,
  sessions: NO_SESSIONS,
  lostTo: undefined,
};

/** `cookie`: what clients without a session id are to come back by, if there is such a thing. */
export class AppResponses {
  readonly #discoverer: Discoverer;
  readonly #bindings: Bindings;
  readonly #cookie: AffinityCookie | undefined;

  constructor(discoverer: Discoverer, bindings: Bindings, cookie?: AffinityCookie) {
    this.#discoverer = discoverer;
    this.#bindings = bindings;
    this.#cookie = cookie;
  }

  /** A promise where an id must be committed before the response may go out (invariant 1). */
  onHead(
    request: RequestHead,
    routed: Routed,
    response: ResponseHead,
  ): InspectedResponse | Promise<InspectedResponse> {
    const found = this.#discoverer.inspectHead(request, routed.ids, response);
    const claim = this.#claimBy(request, routed, response, found.hasEnded);
    const used = claim ? routed.key : this.#noteUse(routed, response, found.hasEnded);
    const rawHeaders = this.#withCookie(request, routed, response, found.rawHeaders);
    const { inspector } = found;
    const sessions = sessionsOf(used, found.discovered);
    if (rawHeaders === undefined && !inspector && !claim && sessions.length === 0)
      return AS_IT_CAME;
    const inspected = { rawHeaders, inspector, sessions, lostTo: undefined };
    if (!claim && found.discovered.length === 0) return inspected;
    return this.#onceCommitted(inspected, found.discovered, claim);
  }

  /** An id was discovered in a body. Resolves when what reveals it may go out. */
  onBody({ id }: DiscoveredId): Promise<void> {
    return this.#bindings.bindDiscovered(id);
  }

  /** Nobody listens at the app's port: the client's cookie is not to bring it here again. */
  ofNobody(response: ErrorResponse, request: RequestHead, { ids }: Routed): ErrorResponse {
    const cookie = this.#cookie;
    if (!cookie || ids.kind !== 'none') return response;
    return { ...response, headers: [...response.headers, ...cookie.expire(request)] };
  }

  /** Nothing is revealed before it is committed (invariant 1). */
  async #onceCommitted(
    inspected: InspectedResponse,
    discovered: readonly DiscoveredId[],
    claim: Promise<MachineId | undefined> | undefined,
  ): Promise<InspectedResponse> {
    const [lostTo] = await Promise.all([
      claim,
      ...discovered.map(({ id }) => this.#bindings.bindDiscovered(id)),
    ]);
    if (lostTo === undefined) return inspected;
    return { ...inspected, sessions: sessionsOf(undefined, discovered), lostTo };
  }

  /** A session id says more than a cookie: who has one needs no cookie. */
  #withCookie(
    request: RequestHead,
    { ids, decision }: Routed,
    response: ResponseHead,
    changed: readonly string[] | undefined,
  ): readonly string[] | undefined {
    // A client that its app has sent here for one request stays with its Machine.
    const isOfApp = decision.why === 'app-replay';
    const cookie = this.#cookie;
    if (cookie === undefined || ids.kind !== 'none' || isOfApp) return changed;
    const { statusCode } = response;
    return cookie.addTo({ statusCode, rawHeaders: changed ?? response.rawHeaders }, request);
  }

  /** The claim of an id that its client has brought, if the app accepts it and it may be ours. */
  #claimBy(
    request: RequestHead,
    { key, binding, decision }: Routed,
    response: ResponseHead,
    hasEnded: boolean,
  ): Promise<MachineId | undefined> | undefined {
    if (key === undefined || decision.kind !== 'local' || !decision.mayClaim || hasEnded)
      return undefined;
    const isOurs = binding !== undefined && decision.takeOverFrom === undefined;
    if (isOurs || !accepts(request, response)) return undefined;
    return this.#bindings.claim(key, decision.takeOverFrom);
  }

  /** What the response says of the session that the request named: its key if it is in use here. */
  #noteUse(
    { key, binding, decision, ids }: Routed,
    response: ResponseHead,
    hasEnded: boolean,
  ): SessionKey | undefined {
    if (key === undefined || ids.kind !== 'found') return undefined;
    if (hasEnded) {
      this.#bindings.endSession(key);
      return undefined;
    }
    const isOurs = binding !== undefined && decision.kind === 'local' && !mayBeAnothers(decision);
    if (!isOurs) return undefined;
    // "Unknown" unbinds nothing, and is no use either: the binding is not touched.
    const isUnknown = response.statusCode === unknownSessionStatus(ids.protocol);
    if (!isUnknown) this.#bindings.touchIfDue(binding);
    return response.statusCode < 400 ? key : undefined;
  }
}

/** Whether what is served here may be the session of another Machine. */
function mayBeAnothers(decision: Decision & { readonly kind: 'local' }): boolean {
  return decision.takeOverFrom !== undefined || decision.why === 'app-replay';
}

/** Most responses belong to no session or to one, and are to cost little. */
function sessionsOf(
  used: SessionKey | undefined,
  discovered: readonly DiscoveredId[],
): readonly SessionKey[] {
  const inUse = used === undefined ? NO_SESSIONS : [used];
  return discovered.length === 0
    ? inUse
    : [...inUse, ...discovered.map(({ id }) => sessionKeyOf(id))];
}

/** Only the app's own acceptance creates a binding (invariant 2). */
export function accepts(request: RequestHead, response: ResponseHead): boolean {
  if (request.method === 'OPTIONS' || request.method === 'HEAD') return false;
  const { statusCode } = response;
  const isAccepted = (statusCode >= 200 && statusCode < 300) || statusCode === 101;
  return isAccepted && !isReplayResponse(response);
}
