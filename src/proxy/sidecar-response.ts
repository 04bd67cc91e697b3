/** Responses of the sidecar itself: the response to an upstream failure, and the JSON-RPC id in it. */
import type { Clock } from '../clock.ts';
import type { IncomingRequest } from '../http/incoming-request.ts';
import type { MalformedRequest } from '../http/request-head.ts';
import { UpstreamError } from '../http/upstream-request.ts';
import { asObject, parseJson } from '../json.ts';
import type { LostWhy } from '../observability/metrics.ts';
import {
  errorResponseFor,
  type ErrorResponse,
  type JsonRpcId,
} from '../protocols/error-responses.ts';
import { headerValue, type RequestHead } from '../protocols/heads.ts';
import type { Decision, Why } from '../routing/decision.ts';
import { collectBody } from './request-body.ts';

/** The maximum size of a body whose id is read, in bytes (invariant 8). */
const MAX_ID_BODY_BYTES = 16_384;
/** How long a body may take, in ms: the error is valid without an id too. */
const MAX_ID_WAIT_MS = 1_000;

const BROKEN: MalformedRequest = {
  status: 400,
  reason: 'the body is not framed as its head says',
};

interface NamedResponseListener {
  onReady(response: ErrorResponse): void;
  onMalformedBody(why: MalformedRequest): void;
  onClientDisconnected(): void;
}

/**
 * Adds the id of the JSON-RPC request in the body to the response, if its protocol requires it (JSON-RPC
 * 2.0 §5). The body is read only for this, and only if it is short and arrives soon.
 */
export function nameRequest(
  incoming: IncomingRequest,
  response: ErrorResponse,
  clock: Clock,
  listener: NamedResponseListener,
): void {
  const { bodyFor } = response;
  // A client that waits for a 100 (Continue) will not send its body.
  const isBodyToCome = incoming.hasBody && !incoming.head.expectsContinue;
  if (!bodyFor || !isBodyToCome || incoming.isReadingBody) {
    listener.onReady(response);
    return;
  }
  const options = { maxBytes: MAX_ID_BODY_BYTES, timeoutMs: MAX_ID_WAIT_MS, clock };
  collectBody(
    incoming,
    options,
    (body) => {
      if (body === 'broken') listener.onMalformedBody(BROKEN);
      else {
        const requestId = typeof body === 'string' ? undefined : requestIdIn(body);
        const text = requestId === undefined ? response.body : bodyFor(requestId);
        listener.onReady({ ...response, body: text });
      }
    },
    () => listener.onClientDisconnected(),
  );
}

/** A notification has none, a batch has several, and the id of a client's own response is not a request's. */
export function requestIdIn(body: Uint8Array): JsonRpcId | undefined {
  const { method, id } = asObject(parseJson(textOf(body))) ?? {};
  if (typeof method !== 'string') return undefined;
  // A number beyond JavaScript's precision would change on its way back.
  return typeof id === 'string' || (typeof id === 'number' && Number.isSafeInteger(id))
    ? id
    : undefined;
}

function textOf(body: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body);
  } catch {
    // JSON must be UTF-8 (RFC 8259 §8.1).
    return '';
  }
}

/**
 * Lets the script that sent the request read an error response (Fetch standard, "CORS protocol"): without
 * these fields a browser hides even the status, so that a client can't tell a lost session from a lost
 * network. There is nothing in these responses that the sender does not know. Cookies may have been sent.
 */
export function corsHeadersFor({ rawHeaders }: Pick<RequestHead, 'rawHeaders'>): readonly string[] {
  const origin = headerValue(rawHeaders, 'origin');
  if (origin === undefined || origin === '') return [];
  return [
    ...['access-control-allow-origin', origin],
    ...['access-control-allow-credentials', 'true'],
    ...['access-control-expose-headers', 'retry-after'],
    ...['vary', 'origin'],
  ];
}

/** The response to a malformed request. */
export function responseToMalformed({ status, reason }: MalformedRequest): ErrorResponse {
  const title = status === 408 ? 'The request was not sent in time' : 'The request is refused';
  const headers = ['content-type', 'text/plain; charset=utf-8'];
  return { status, headers, body: `${title}: ${reason}.\n` };
}

/**
 * The response to an upstream failure: 504 if the upstream is too slow, 503 if it is at its limit, 502 if
 * it is unreachable or broke off. `mayRepeat`: the client may repeat the request safely; only then does
 * the response have a `Retry-After` (RFC 9110 §10.2.3).
 */
export function responseToFailure(error: UpstreamError, mayRepeat: boolean): ErrorResponse {
  switch (error.code) {
    case 'head-timeout':
    case 'connect-timeout':
    case 'peer-unresponsive':
      return errorResponseFor(504, 'upstream-down', undefined, mayRepeat);
    case 'too-many-connections':
      return errorResponseFor(503, 'overloaded', undefined, mayRepeat);
    default:
      return errorResponseFor(502, 'upstream-down', undefined, mayRepeat);
  }
}

/** Nothing listens on the app's port, so no part of the request has reached the app. */
export function isConnectionRefused(error: UpstreamError): boolean {
  if (error.code !== 'connect-failed') return false;
  const { cause } = error as { readonly cause?: NodeJS.ErrnoException };
  return cause?.code === 'ECONNREFUSED';
}

/** Why the sidecar reports a session as lost. Of one that is served here, only a restart of the app is a reason. */
export function whyLost({ kind, why }: Decision): LostWhy {
  if (kind === 'local') return 'app-restarted';
  return why === 'unknown-session' || why === 'owner-gone' ? why : 'other';
}

/** Why it can't be reached. If it is served here and not in doubt, the app has too many connections. */
export function whyUnavailable(decision: Decision): Why {
  const isServedHere = decision.kind === 'local' && decision.isInDoubt !== true;
  return isServedHere ? 'overloaded' : decision.why;
}
