/** The record of each request, from its arrival to its end, for the access log, the metrics and a drain. */
import type { Clock } from '../clock.ts';
import type { UpstreamError } from '../http/upstream-request.ts';
import type { Logger } from '../observability/log.ts';
import { NO_PROTOCOL, type Metrics } from '../observability/metrics.ts';
import type { RequestSpan } from '../observability/tracing.ts';
import type { RequestHead } from '../protocols/heads.ts';
import type { PathMask } from '../protocols/id-locations.ts';
import type { EdgeFields } from '../routing/facts.ts';
import type { Routed } from '../routing/route.ts';
import { createRequestLog, loggedPath, loggedRequestId } from './request-log.ts';
import type { SeenProtocols } from './seen-protocols.ts';
import { whyLost, whyUnavailable } from './sidecar-response.ts';

/** Clients usually send their next request within this time after a response, in ms. */
export const QUIET_MS = 1_000;

interface RequestRecorderParts {
  readonly clock: Pick<Clock, 'monotonicMs'>;
  readonly logger: Pick<Logger, 'info' | 'warn' | 'isLevelEnabled'>;
  readonly metrics: Pick<
    Metrics,
    | 'requestDecided'
    | 'clientRequest'
    | 'responseSent'
    | 'sidecarTime'
    | 'upstreamTime'
    | 'sessionLost'
    | 'sessionUnavailable'
  >;
  readonly maskPath?: PathMask;
  readonly seenProtocols?: SeenProtocols;
}

const CLIENT_DISCONNECTED = 499;
const NOT_FOUND = 404;
const UNAVAILABLE = 503;
const CUT_BY_STOP = 'cut at the end of the drain';
const CUT_BY_CLIENT = 'the client disconnected before its end';

/** The request of a record. */
interface RecordedRequest {
  readonly requestId: string;
  readonly from: 'edge' | 'peer';
  readonly head: RequestHead;
  readonly fields: Pick<EdgeFields, 'requestId'>;
  readonly traceId?: string | undefined;
  readonly span?: RequestSpan | undefined;
}

/**
 * Knows whether clients still use this Machine, through the edge or through a peer. Health checks of Fly.io
 * end as other requests do, but are no use.
 */
export class RequestRecorder {
  readonly parts: RequestRecorderParts;
  readonly logRequest: ReturnType<typeof createRequestLog>;
  #isStopped = false;
  #openCount = 0;
  #lastEndedAtMs = -Infinity;
  #lastUsedAtMs: number;

  constructor(parts: RequestRecorderParts) {
    this.parts = parts;
    this.#lastUsedAtMs = parts.clock.monotonicMs();
    this.logRequest = createRequestLog(parts.logger, parts.maskPath);
  }

  /** HOT PATH. */
  begin(): RequestRecord {
    this.#openCount += 1;
    return new RequestRecord(this);
  }

  /** Once for each `begin`. HOT PATH. */
  onEnd(nowMs: number, isHealthCheck: boolean): void {
    this.#openCount -= 1;
    this.#lastEndedAtMs = nowMs;
    if (!isHealthCheck) this.#lastUsedAtMs = nowMs;
  }

  /** How long no client has used this Machine, in ms; 0 while a request is open. */
  idleMs(): number {
    return this.#openCount > 0 ? 0 : this.parts.clock.monotonicMs() - this.#lastUsedAtMs;
  }

  /** From now on the sidecar itself ends the requests that are still open. */
  stop(): void {
    this.#isStopped = true;
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** 0 if no request was open for a second; else the earliest time, in ms, after which that can be true. */
  msUntilQuiet(): number {
    if (this.#openCount > 0) return QUIET_MS;
    return Math.max(0, this.#lastEndedAtMs + QUIET_MS - this.parts.clock.monotonicMs());
  }
}

/** Times are in ms of the monotonic clock; 0: the step was not taken. */
export class RequestRecord {
  readonly #recorder: RequestRecorder;
  readonly #arrivedAt: number;
  #sentAt = 0;
  #respondedAt = 0;
  #isMeasured = false;
  #isCounted = false;
  /** The last decision. */
  routed: Routed | undefined;
  /** The client's status; 0 before the response. */
  statusCode = 0;
  /** Why a request is malformed, or why the response ended early. */
  reason: string | undefined;

  constructor(recorder: RequestRecorder) {
    this.#recorder = recorder;
    this.#arrivedAt = recorder.parts.clock.monotonicMs();
  }

  /** The request is sent to its upstream. */
  noteSent(): void {
    this.#sentAt = this.#nowMs();
  }

  /** The upstream's response head has arrived, or the upstream has failed. */
  noteResponse(): void {
    this.#respondedAt = this.#nowMs();
  }

  /** The head of the response goes out; `isHeld`: it waited since it arrived. */
  noteStarted(statusCode: number, isHeld = true): void {
    this.statusCode = statusCode;
    this.#count();
    this.#measure(isHeld ? this.#nowMs() : this.#respondedAt);
  }

  /**
   * The sidecar itself responds. `status`: what the response means; some protocols have another status for
   * it. A request that passes two sidecars gets one such response, so it is counted once.
   */
  noteOwnResponse(status: number): void {
    if (this.routed?.ids.kind !== 'found') return;
    const { decision } = this.routed;
    const { metrics } = this.#recorder.parts;
    if (status === NOT_FOUND) metrics.sessionLost(whyLost(decision));
    else if (status === UNAVAILABLE) metrics.sessionUnavailable(whyUnavailable(decision));
  }

  /** The connection of the client closed before the response was complete: of a stream that is its usual end. */
  noteDisconnected(): void {
    const { isStopped } = this.#recorder;
    if (this.statusCode > 0) this.reason ??= isStopped ? CUT_BY_STOP : CUT_BY_CLIENT;
    else if (!isStopped) this.statusCode = CLIENT_DISCONNECTED;
    else {
      this.reason ??= CUT_BY_STOP;
      this.statusCode = UNAVAILABLE;
    }
  }

  noteUpstreamFailure({ code, message: reason }: UpstreamError, requestId: string): void {
    const to = this.routed?.decision.kind;
    this.#recorder.parts.logger.warn({ requestId, to, code, reason }, 'upstream failed');
  }

  /** The response is complete, or the client has disconnected. To be called once. */
  end(request: RecordedRequest): void {
    const { requestId, from, head } = request;
    const endedAt = this.#nowMs();
    this.#count();
    this.#recorder.onEnd(endedAt, this.#isHealthCheck(request));
    this.#measure(endedAt);
    this.#countResponse(from);
    if (request.span) this.#endSpan(request, request.span);
    const { routed } = this;
    // A client that disconnected during the owner lookup was never routed.
    if (!routed) return;
    if (
      routed.ids.kind === 'none' &&
      routed.decision.kind === 'local' &&
      isSuccess(this.statusCode)
    )
      this.#recorder.parts.seenProtocols?.noteWithoutId(head);
    this.#recorder.logRequest({
      requestId,
      traceId: request.traceId,
      method: head.method,
      target: head.target,
      head,
      protocol: routed.ids.kind === 'found' ? routed.ids.protocol.name : undefined,
      session: routed.key,
      decision: routed.decision.kind,
      why: routed.decision.why,
      reason: this.reason,
      owner: routed.owner,
      status: this.statusCode,
      durationMs: endedAt - this.#arrivedAt,
    });
  }

  /**
   * The time that the sidecar added until the response head was sent, and the time of the upstream. Once per
   * request: when its response starts, as a stream may be open for hours, or when it ends without one.
   */
  #measure(startedAt: number): void {
    if (this.#isMeasured) return;
    this.#isMeasured = true;
    const { metrics } = this.#recorder.parts;
    const wasServed = this.#sentAt > 0 && this.#respondedAt > 0;
    const upstreamMs = wasServed ? this.#respondedAt - this.#sentAt : 0;
    metrics.sidecarTime(Math.max(0, startedAt - this.#arrivedAt - upstreamMs));
    if (!wasServed) return;
    metrics.upstreamTime(upstreamMs, this.routed?.decision.kind === 'forward' ? 'peer' : 'app');
  }

  /** Of a request that the edge replays, its client gets the response of the next sidecar. */
  #countResponse(from: 'edge' | 'peer'): void {
    const { metrics } = this.#recorder.parts;
    metrics.responseSent(this.statusCode);
    const kind = this.routed?.decision.kind;
    if (from === 'peer' || kind === 'replay' || kind === 'elsewhere') return;
    const ids = this.routed?.ids;
    metrics.clientRequest(ids?.kind === 'found' ? ids.protocol.name : NO_PROTOCOL, this.statusCode);
  }

  /** Counts the final decision, once per request: when its response starts, or when it ends without one. */
  #count(): void {
    if (this.#isCounted || !this.routed) return;
    this.#isCounted = true;
    const { ids, decision } = this.routed;
    const { metrics, seenProtocols } = this.#recorder.parts;
    metrics.requestDecided(decision.kind, decision.why);
    if (ids.kind === 'found' && decision.kind === 'local') seenProtocols?.noteServed(ids.protocol);
  }

  /** Fly.io checks the port itself: the request has not passed Fly Proxy, which would have named it. */
  #isHealthCheck({ from, head: { method }, fields }: RecordedRequest): boolean {
    if (from === 'peer' || fields.requestId !== undefined) return false;
    return (method === 'GET' || method === 'HEAD') && this.routed?.ids.kind === 'none';
  }

  /** Nobody has sent a 499. */
  #endSpan({ requestId, head }: RecordedRequest, span: RequestSpan): void {
    const { routed, statusCode } = this;
    const ids = routed?.ids;
    span.end({
      requestId: loggedRequestId(requestId),
      path: loggedPath(head.target, head, this.#recorder.parts.maskPath),
      status: statusCode === CLIENT_DISCONNECTED ? 0 : statusCode,
      decision: routed?.decision.kind,
      why: routed?.decision.why,
      reason: this.reason,
      session: routed?.key,
      protocol: ids?.kind === 'found' ? ids.protocol.name : undefined,
      owner: routed?.owner,
    });
  }

  #nowMs(): number {
    return this.#recorder.parts.clock.monotonicMs();
  }
}

function isSuccess(statusCode: number): boolean {
  return statusCode === 101 || (statusCode >= 200 && statusCode < 300);
}
