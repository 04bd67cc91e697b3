/** What a request tells logs and metrics. */
import type { Decision } from '../routing/decision.ts';
import type { Logger } from '../observability/log.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { RequestLine } from './access-log.ts';
import type { UpstreamError } from '../http/upstream-error.ts';
import type { Routed } from '../routing/route.ts';

/** Told what happened, for logs and metrics. */
export interface RequestObserver {
  /** What was decided in the end: once a request, when its response begins or it is over without one. */
  onDecided(decision: Decision): void;
  onStreamOpened(kind: StreamKind): void;
  onStreamClosed(kind: StreamKind): void;
  onFinished(request: FinishedRequest): void;
  onUpstreamFailure(error: UpstreamError, request: FinishedRequest): void;
}

export type StreamKind = 'http' | 'websocket';

export interface FinishedRequest {
  readonly requestId: string;
  readonly method: string;
  /** With its query: the log takes what it may show. */
  readonly target: string;
  readonly routed: Routed | undefined;
  /** What is wrong with a malformed request, or why a stream was broken off. */
  readonly reason: string | undefined;
  /** 499: the client left first. */
  readonly statusCode: number;
  readonly totalMs: number;
  /** What the sidecar added, in ms. */
  readonly sidecarMs: number;
  /** From sending the request upstream to the response's head, in ms. */
  readonly upstreamMs: number | undefined;
}

export interface ObserverParts {
  readonly logger: Logger;
  readonly logRequest: (line: RequestLine) => void;
  readonly metrics: Metrics;
}

export function createObserver(parts: ObserverParts): RequestObserver {
  const { logger, logRequest, metrics } = parts;

  function onFinished(request: FinishedRequest): void {
    metrics.responseSent(request.statusCode);
    metrics.sidecarTime(request.sidecarMs);
    if (request.upstreamMs !== undefined) metrics.upstreamTime(request.upstreamMs);
    const { routed } = request;
    // A client that disconnected during the owner lookup was never routed.
    if (!routed) return;
    logRequest({
      requestId: request.requestId,
      method: request.method,
      target: request.target,
      session: routed.key,
      decision: routed.decision.kind,
      why: routed.decision.why,
      reason: request.reason,
      owner: routed.owner,
      status: request.statusCode,
      durationMs: request.totalMs,
    });
  }

  function onUpstreamFailure(error: UpstreamError, { requestId, routed }: FinishedRequest): void {
    logger.warn(
      { requestId, to: routed?.decision.kind, code: error.code, reason: error.message },
      'upstream failed',
    );
  }

  return {
    onDecided: ({ kind, why }) => metrics.requestDecided(kind, why),
    onStreamOpened: (kind) => metrics.openStreams(kind, 1),
    onStreamClosed: (kind) => metrics.openStreams(kind, -1),
    onFinished,
    onUpstreamFailure,
  };
}
