/** An attempt at the app. Ids that its response reveals are bound before it goes out (invariant 1). */
import type { BodyFilter, FilteredBytes, OutgoingResponse } from '../http/pipe-owner.ts';
import type { ParsedResponseHead } from '../http/response-head.ts';
import type { UpstreamPool } from '../http/upstream-pool.ts';
import type { BodyInspector, InspectedChunk } from '../protocols/body-inspector.ts';
import { unknownSessionStatus, type ErrorResponse } from '../protocols/error-responses.ts';
import { withoutHeader } from '../protocols/heads.ts';
import type { DiscoveredId } from '../protocols/protocol.ts';
import { errorResponse, unreachable } from '../routing/respond.ts';
import type { Routed } from '../routing/route.ts';
import { sessionKeyOf } from '../session.ts';
import type { AppResponses, InspectedResponse, SessionsOlderThanApp } from './app-responses.ts';
import { Attempt, type AttemptedRequest, type AttemptParts } from './attempt.ts';
import type { Bindings } from './bindings.ts';
import { requestToApp, type AttemptRequestParts } from './attempt-request.ts';
import { hasRefusal, REFUSED_HEADER } from './forwarded-head.ts';

export interface AppAttemptParts extends AttemptParts, AttemptRequestParts {
  readonly upstream: UpstreamPool;
  readonly appResponses: AppResponses;
  readonly bindings: AttemptParts['bindings'] & Pick<Bindings, 'beginClaim' | 'endSession'>;
  readonly olderSessions: Pick<SessionsOlderThanApp, 'isRejected'>;
}

const AS_IT_CAME: OutgoingResponse = { rawHeaders: undefined };
/** RFC 9110 §9.2.1. Upgrades are GETs. */
const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);

export class AppAttempt extends Attempt {
  readonly kind = 'app';
  readonly #parts: AppAttemptParts;
  /** Ends the pending claim of this request, which peers receive. */
  #endClaim: (() => void) | undefined;

  constructor(request: AttemptedRequest, routed: Routed, parts: AppAttemptParts) {
    const sent = requestToApp(request, routed, request.takeBody(), parts);
    super(request, routed, parts.upstream, sent, parts);
    this.#parts = parts;
  }

  override start(): void {
    const { decision, key } = this.routed;
    const mayClaim = decision.kind === 'local' && decision.mayClaim;
    if (mayClaim && key !== undefined) this.#endClaim = this.#parts.bindings.beginClaim(key);
    super.start();
  }

  protected override inspect(
    head: ParsedResponseHead,
  ): OutgoingResponse | Promise<OutgoingResponse | undefined> | undefined {
    const instead = this.#responseInstead(head);
    if (instead) {
      this.request.respondInstead(instead);
      return undefined;
    }
    const response = this.request.from === 'peer' ? withoutRefusal(head) : head;
    const own = response === head ? undefined : response.rawHeaders;
    const inspected = this.#parts.appResponses.onHead(this.request.head, this.routed, response);
    this.isHeld = inspected instanceof Promise;
    if (inspected instanceof Promise)
      return inspected.then((checked) => this.#passUnlessLost(checked, own));
    this.#endClaim?.();
    return this.#outgoing(inspected, own);
  }

  override close(): void {
    super.close();
    this.#endClaim?.();
  }

  #responseInstead(head: ParsedResponseHead): ErrorResponse | undefined {
    const routed = this.routed;
    const { key, ids } = routed;
    const { olderSessions, bindings } = this.#parts;
    if (isFalseNotFound(routed, head.statusCode)) return unreachable(routed);
    if (!key || ids.kind !== 'found') return undefined;
    if (!olderSessions.isRejected(this.request.head, routed, head)) return undefined;
    bindings.endSession(key, ids.protocol.name, 'app-restarted');
    return errorResponse(404, 'unknown-session', ids);
  }

  /** After a lost claim, sends the client to the winner if the request may be repeated (invariant 1). */
  #passUnlessLost(
    inspected: InspectedResponse,
    own: readonly string[] | undefined,
  ): OutgoingResponse | undefined {
    this.#endClaim?.();
    const { lostTo } = inspected;
    if (lostTo === undefined || !this.#mayRepeat()) return this.#outgoing(inspected, own);
    // The client may have disconnected meanwhile.
    if (!this.request.isClosed) this.request.goToWinner(lostTo);
    return undefined;
  }

  /** A safe request or an upgrade without a body, which is not buffered. */
  #mayRepeat(): boolean {
    return SAFE.has(this.request.head.method) && !this.request.incoming.hasBody;
  }

  #outgoing(
    { rawHeaders, inspector, sessions }: InspectedResponse,
    own: readonly string[] | undefined,
  ): OutgoingResponse {
    this.sessions = sessions;
    if (!inspector && rawHeaders === undefined && own === undefined) return AS_IT_CAME;
    const sent = rawHeaders ?? own;
    return inspector
      ? { rawHeaders: sent, inspector: this.#filterOf(inspector) }
      : { rawHeaders: sent };
  }

  #filterOf(inspector: BodyInspector): BodyFilter {
    const filtered = ({ out, discovered, isDone }: InspectedChunk): FilteredBytes => ({
      out,
      until: discovered.length > 0 ? this.#bind(discovered) : undefined,
      isDone,
    });
    return {
      push: (bytes) => filtered(inspector.push(bytes)),
      end: () => filtered(inspector.end()),
    };
  }

  async #bind(discovered: readonly DiscoveredId[]): Promise<void> {
    await this.#parts.appResponses.onBody(discovered);
    for (const { id, protocol } of discovered)
      if (protocol.endsBy === 'stream-end') this.carry(sessionKeyOf(id), protocol.name);
  }
}

/** Only a sidecar may state why a forward was rejected. */
function withoutRefusal(
  head: ParsedResponseHead,
): Pick<ParsedResponseHead, 'statusCode' | 'rawHeaders'> {
  if (!hasRefusal(head.rawHeaders)) return head;
  const { statusCode, rawHeaders } = head;
  return { statusCode, rawHeaders: withoutHeader(rawHeaders, REFUSED_HEADER) };
}

/**
 * The local app does not know this id, and a Machine that may know it did not respond. The "not found"
 * of the app would make the client drop a live session (invariant 11).
 */
function isFalseNotFound({ decision, ids }: Routed, statusCode: number): boolean {
  const isInDoubt = decision.kind === 'local' && decision.isInDoubt === true;
  if (!isInDoubt || ids.kind !== 'found') return false;
  return statusCode === unknownSessionStatus(ids.protocol);
}
