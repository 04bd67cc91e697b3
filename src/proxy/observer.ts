/** What an exchange tells logs and metrics. */
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import type { RequestLine } from '../request-line.ts';
import type { ExchangeObserver, FinishedExchange } from './exchange-parts.ts';
import { codeOf } from './failure.ts';

export interface ObserverParts {
  readonly logger: Logger;
  readonly logRequest: (line: RequestLine) => void;
  readonly metrics: Metrics;
  /** Makes the id of a request that the edge has given none. */
  readonly createRequestId: () => string;
}

export function createObserver(parts: ObserverParts): ExchangeObserver {
  const { logger, logRequest, metrics, createRequestId } = parts;

  function onFinished(exchange: FinishedExchange): void {
    metrics.requestAnswered(exchange);
    const { routed } = exchange;
    // A client that left while its owner was being looked for was never routed.
    if (!routed) return;
    logRequest({
      requestId: exchange.requestId ?? createRequestId(),
      method: exchange.method,
      target: exchange.target,
      session: routed.key,
      decision: routed.decision.kind,
      why: routed.decision.why,
      owner: routed.owner,
      status: exchange.statusCode,
      durationMs: exchange.totalMs,
    });
  }

  function onUpstreamFailure(error: Error, { requestId, routed }: FinishedExchange): void {
    logger.warn(
      { requestId, to: routed?.decision.kind, code: codeOf(error), reason: error.message },
      'upstream failed',
    );
  }

  return {
    onStreamOpened: metrics.streamOpened,
    onStreamClosed: metrics.streamClosed,
    onFinished,
    onUpstreamFailure,
  };
}
