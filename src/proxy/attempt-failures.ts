/** What becomes of a request whose attempt ended without a response: a new decision, or a response of the sidecar. */
import { isIdempotent } from '../http/pipe-owner.ts';
import type { UpstreamError } from '../http/upstream-request.ts';
import type { ErrorResponse } from '../protocols/error-responses.ts';
import { unreachable } from '../routing/respond.ts';
import type { Routed } from '../routing/route.ts';
import type { AppAttempt } from './app-attempt.ts';
import type { PeerAttempt } from './peer-attempt.ts';
import type { ProxyParts } from './proxy-parts.ts';
import type { ReceivedRequest } from './received-request.ts';
import { isConnectionRefused, responseToFailure } from './sidecar-response.ts';

type AfterFailure =
  | {
      readonly routed: Routed;
      /** The part of the body that was read for the upstream. */
      readonly unsentBody?: Buffer | undefined;
    }
  | {
      readonly routed?: undefined;
      readonly response: ErrorResponse;
      readonly unsentBody?: undefined;
    };

export function afterAppFailure(
  request: ReceivedRequest,
  { routed }: AppAttempt,
  error: UpstreamError,
  { router, appResponses, onRefused }: Pick<ProxyParts, 'router' | 'appResponses' | 'onRefused'>,
): AfterFailure {
  const response = responseToFailure(error, mayRepeat(request, error));
  if (!isConnectionRefused(error)) return { response };
  // No byte has reached the app, and the edge still has the whole request.
  onRefused();
  const elsewhere = router.elsewhere(request, routed);
  if (elsewhere) return { routed: elsewhere };
  return { response: appResponses.whenAppIsDown(response, request.head, routed) };
}

export function afterPeerFailure(
  request: ReceivedRequest,
  { routed, pipe }: PeerAttempt,
  error: UpstreamError,
  { router }: Pick<ProxyParts, 'router'>,
): AfterFailure {
  const body = routed.decision.why === 'placed' && error.wasNotSent ? pipe.takeBody() : undefined;
  const here = body && router.withoutPlace(routed);
  if (here) return { routed: here, unsentBody: body.length === 0 ? undefined : body };
  // A peer reports that it received a forward before its app sees any of it.
  const wasNotReceived = error.code === 'connection-lost' && !error.hasReceivedBytes;
  const isSafe = wasNotReceived || mayRepeat(request, error);
  return { response: isSafe ? unreachable(routed) : responseToFailure(error, false) };
}

/** Whether the client may repeat the request safely. */
function mayRepeat({ head }: ReceivedRequest, error: UpstreamError): boolean {
  return error.wasNotSent || isIdempotent(head.method);
}
