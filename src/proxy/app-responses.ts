/** Inspects responses of the app: binds the ids that they reveal, and adds hints and cookies. */
import type { DiscoveredId, Protocol } from '../protocols/protocol.ts';
import type { BodyInspector } from '../protocols/body-inspector.ts';
import { type RequestHead, type ResponseHead, isReplayResponse } from '../protocols/heads.ts';
import type { AffinityCookie } from '../protocols/affinity-cookie.ts';
import type { Decision } from '../routing/decision.ts';
import type { Discoverer } from '../protocols/discoveries.ts';
import { unknownSessionStatus, type ErrorResponse } from '../protocols/error-responses.ts';
import { sessionKeyOf, type MachineId, type SessionKey, type Binding } from '../session.ts';
import type { Bindings } from './bindings.ts';
import type { Routed } from '../routing/route.ts';

export interface InspectedResponse {
  /** The changed fields; undefined if they are unchanged. */
  readonly rawHeaders: readonly string[] | undefined;
  /** Discovers an id in the body. */
  readonly inspector: BodyInspector | undefined;
  /** The sessions of this Machine that the response belongs to, bound before or by it. */
  readonly sessions: readonly SessionKey[];
  /** The owner of the session that this Machine failed to claim. */
  readonly lostTo: MachineId | undefined;
}

const NO_SESSIONS: readonly SessionKey[] = [];
/** Most responses reveal nothing. */
const UNCHANGED: InspectedResponse = {
  rawHeaders: undefined,
  inspector: undefined,
  sessions: NO_SESSIONS,
  lostTo: undefined,
};

/** `cookie`: the affinity cookie for clients without a session id, if enabled. */
export class AppResponses {
  readonly #discoverer: Discoverer;
  readonly #bindings: Bindings;
  readonly #cookie: AffinityCookie | undefined;

  constructor(discoverer: Discoverer, bindings: Bindings, cookie?: AffinityCookie) {
    this.#discoverer = discoverer;
    this.#bindings = bindings;
    this.#cookie = cookie;
  }

  /** A promise if an id must be committed before the response may go out (invariant 1). */
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
    if (rawHeaders === undefined && !inspector && !claim && sessions.length === 0) return UNCHANGED;
    const inspected = { rawHeaders, inspector, sessions, lostTo: undefined };
    if (!claim && found.discovered.length === 0) return inspected;
    return this.#onceCommitted(inspected, found.discovered, claim);
  }

  /** Binds the ids discovered in a body. Resolves when the revealing bytes may go out. */
  async onBody(discovered: readonly DiscoveredId[]): Promise<void> {
    await Promise.all(discovered.map((found) => this.#bindDiscovered(found)));
  }

  #bindDiscovered({ id, protocol }: DiscoveredId): Promise<void> {
    return this.#bindings.bindDiscovered(id, protocol.name);
  }

  /** Nothing listens on the app's port: removes the cookie, so that the client does not return here. */
  whenAppIsDown(response: ErrorResponse, request: RequestHead, { ids }: Routed): ErrorResponse {
    const cookie = this.#cookie;
    if (!cookie || ids.kind !== 'none') return response;
    return { ...response, headers: [...response.headers, ...cookie.expire(request)] };
  }

  /** No id is revealed before its binding is committed (invariant 1). */
  async #onceCommitted(
    inspected: InspectedResponse,
    discovered: readonly DiscoveredId[],
    claim: Promise<MachineId | undefined> | undefined,
  ): Promise<InspectedResponse> {
    const [lostTo] = await Promise.all([
      claim,
      ...discovered.map((found) => this.#bindDiscovered(found)),
    ]);
    if (lostTo === undefined) return inspected;
    return { ...inspected, sessions: sessionsOf(undefined, discovered), lostTo };
  }

  /** A session id is more specific than a cookie: a client with an id needs no cookie. */
  #withCookie(
    request: RequestHead,
    { ids, decision }: Routed,
    response: ResponseHead,
    changed: readonly string[] | undefined,
  ): readonly string[] | undefined {
    // A client that an app replayed here for one request stays with its own Machine.
    const isOfApp = decision.why === 'app-replay';
    const cookie = this.#cookie;
    if (cookie === undefined || ids.kind !== 'none' || isOfApp) return changed;
    if (!cookie.mayAddTo(response, request)) return changed;
    if (changed === undefined) return cookie.addTo(response, request);
    return cookie.addTo({ statusCode: response.statusCode, rawHeaders: changed }, request);
  }

  /** The claim of an id that the client sent, if the app accepts it and this Machine may claim it. */
  #claimBy(
    request: RequestHead,
    { key, binding, decision, ids }: Routed,
    response: ResponseHead,
    hasEnded: boolean,
  ): Promise<MachineId | undefined> | undefined {
    if (key === undefined || ids.kind !== 'found' || hasEnded) return undefined;
    if (decision.kind !== 'local' || !decision.mayClaim) return undefined;
    const isOurs = binding !== undefined && decision.takeOverFrom === undefined;
    if (isOurs || !accepts(request, response)) return undefined;
    return this.#bindings.claim(key, decision.takeOverFrom, ids.protocol.name);
  }

  /** Updates the session that the request named; returns its key if it is in use here. */
  #noteUse(
    { key, binding, decision, ids }: Routed,
    response: ResponseHead,
    hasEnded: boolean,
  ): SessionKey | undefined {
    if (key === undefined || ids.kind !== 'found') return undefined;
    if (hasEnded) {
      this.#bindings.endSession(key, ids.protocol.name, 'closed');
      return undefined;
    }
    const isOurs = binding !== undefined && decision.kind === 'local' && !mayBeAnothers(decision);
    if (!isOurs) return undefined;
    // A "session not found" neither removes nor touches the binding.
    const isUnknown = response.statusCode === unknownSessionStatus(ids.protocol);
    if (!isUnknown) this.#bindings.touchIfDue(binding);
    return response.statusCode < 400 ? key : undefined;
  }
}

/** Whether the session that is served here may belong to another Machine. */
function mayBeAnothers(decision: Decision & { readonly kind: 'local' }): boolean {
  return decision.takeOverFrom !== undefined || decision.why === 'app-replay';
}

/** Cheap for most responses, which belong to no session or to one. */
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
function accepts(request: RequestHead, response: ResponseHead): boolean {
  if (request.method === 'OPTIONS' || request.method === 'HEAD') return false;
  const { statusCode } = response;
  const isAccepted = (statusCode >= 200 && statusCode < 300) || statusCode === 101;
  return isAccepted && !isReplayResponse(response);
}

interface SessionsOlderThanAppOptions {
  readonly self: MachineId;
  /** In ms since the epoch; undefined outside `run`, where no session counts as older. */
  readonly appStartedAt: number | undefined;
  /** The app has rejected the first such session. */
  readonly onFirstRejected: () => void;
}

/**
 * Statuses with which apps reject an unknown id: 400 (Engine.IO, MCP servers), 404, 410, and 422 of
 * frameworks that validate. Other statuses are about something else: authentication (401, 403, 407, 419),
 * the form of the request (405, 406, 411 to 415, 417, 431), or its timing (408, 409, 425, 429).
 */
const REJECTIONS: ReadonlySet<number> = new Set([400, 404, 410, 422]);

/** The maximum number of remembered keys, about 16 MB. */
const MAX_KEYS = 100_000;

function isOlderThanApp(
  { createdAt }: Pick<Binding, 'createdAt'>,
  appStartedAt: number | undefined,
): boolean {
  return appStartedAt !== undefined && createdAt < appStartedAt;
}

/** A client brings its own id again, and an error of a page is none of a cookie's session. */
function mayReject({ mintedBy, isSoft }: Protocol): boolean {
  return mintedBy === 'app' && isSoft !== true;
}

/**
 * Sessions older than the app process, which the sidecar detects in `run` mode. Such a session may have
 * ended with an earlier process, or survived the restart. The responses of the app decide:
 *
 *   older --2xx, 101--> known: the app still has the session
 *     |                      ^
 *     +--400, 404,…--> rejected --2xx, 101
 *
 * Apps reject an unknown id with different statuses; the server of MCP's examples returns 400, after
 * which no client starts a new session.
 */
export class SessionsOlderThanApp {
  readonly #options: SessionsOlderThanAppOptions;
  readonly #known = new Set<SessionKey>();
  readonly #rejected = new Set<SessionKey>();
  #hasReported = false;

  constructor(options: SessionsOlderThanAppOptions) {
    this.#options = options;
  }

  /**
   * Records the response of the app. True if the app rejects a session from before its start that it has
   * not accepted since: the client then gets the protocol's "session not found". HOT PATH.
   */
  isRejected(request: RequestHead, routed: Routed, response: ResponseHead): boolean {
    const { key, binding, ids, decision } = routed;
    if (this.#options.appStartedAt === undefined || key === undefined) return false;
    if (ids.kind !== 'found' || decision.kind !== 'local') return false;
    if (!this.#isOlder(binding) && !this.#rejected.has(key)) return false;
    if (accepts(request, response)) this.#noteKnown(key);
    else if (mayReject(ids.protocol) && rejects(request, response)) {
      return !this.#isKnown(key) && this.#noteRejected(key);
    }
    return false;
  }

  /** Whether a binding comes from a client's claim at an earlier process, which the current one may not know. */
  isVoid(binding: Binding): boolean {
    return binding.origin !== 'learned' && this.#isOlder(binding) && !this.#isKnown(binding.key);
  }

  #isOlder(binding: Binding | undefined): boolean {
    const { self, appStartedAt } = this.#options;
    return binding?.machine === self && isOlderThanApp(binding, appStartedAt);
  }

  /** An app that kept this many sessions over its restart keeps the others too. */
  #isKnown(key: SessionKey): boolean {
    return this.#known.has(key) || this.#known.size >= MAX_KEYS;
  }

  #noteKnown(key: SessionKey): void {
    this.#rejected.delete(key);
    if (this.#known.size < MAX_KEYS) this.#known.add(key);
  }

  /** Its binding ends, but its client may have more requests in flight. */
  #noteRejected(key: SessionKey): true {
    this.#rejected.add(key);
    for (const oldest of this.#rejected) {
      if (this.#rejected.size <= MAX_KEYS) break;
      this.#rejected.delete(oldest);
    }
    if (!this.#hasReported) this.#options.onFirstRejected();
    this.#hasReported = true;
    return true;
  }
}

/** A preflight or a HEAD often gets its response from a layer without sessions. */
function rejects({ method }: RequestHead, { statusCode }: ResponseHead): boolean {
  return REJECTIONS.has(statusCode) && method !== 'OPTIONS' && method !== 'HEAD';
}
