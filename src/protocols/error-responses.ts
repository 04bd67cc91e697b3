/** The error response of each protocol. It shows nothing internal: no id, no Machine, no error message. */
import type { Why } from '../routing/decision.ts';
import type { Protocol } from './protocol.ts';

export interface ErrorResponse {
  readonly status: number;
  /** The usual status with that meaning, where the protocol has another one. */
  readonly meaning?: number;
  /** Name, value, name, value; without `Content-Length`, which the engine adds. */
  readonly headers: readonly string[];
  /** The body where the JSON-RPC id of the request is not known. */
  readonly body: string;
  /** The body with the JSON-RPC id of the request; only where the error response names it. */
  readonly bodyFor?: (requestId: JsonRpcId) => string;
}

export type JsonRpcId = string | number;

export type ErrorStatus = 400 | 404 | 421 | 502 | 503 | 504 | 508;

/** In seconds. By then the owner may have restarted, or the app may be up. */
const RETRY_AFTER = '1';

const TITLES: Readonly<Record<ErrorStatus, string>> = {
  400: 'Bad Request',
  404: 'Session not found',
  421: 'Misdirected Request',
  502: 'The app gave no valid response',
  503: 'The session cannot be reached right now',
  504: 'The app took too long to answer',
  508: 'The request passes this sidecar again and again',
};

const OVERLOADED = 'Too much is under way already';

/**
 * What clients of MCP's own SDKs expect for an unknown session, so that they start a new one (MCP 2025-11-25,
 * "Session Management": 404).
 */
const MCP_SESSION_NOT_FOUND: RpcError = { code: -32001, message: 'Session not found' };

/** SEP-2663, "Protocol Errors", as are code and message. */
const MCP_TASK_NOT_FOUND: RpcError = {
  code: -32602,
  message: 'Failed to retrieve task: Task not found',
};

/**
 * Engine.IO's own error, for a poll and for an upgrade alike: its clients take any status but 200 for the end
 * of their connection, and a 404 in response to an upgrade would tell them nothing more.
 */
const ENGINE_IO_SESSION_UNKNOWN = { code: 1, message: 'Session ID unknown' };
const ENGINE_IO_STATUS = 400;

/** W3C WebDriver, "Errors": `invalid session id`. */
const NO_SUCH_SESSION = {
  value: { error: 'invalid session id', message: 'Session not found', stacktrace: '' },
};

interface RpcError {
  readonly code: number;
  readonly message: string;
}

/**
 * `protocol`: the protocol of the request's session id; undefined if the request has none. `mayRepeat`: the
 * client may repeat the request safely, so the response has a `Retry-After`. A session that never existed, one
 * of another client and one that has ended get the same response, so that guessing ids reveals nothing.
 */
export function errorResponseFor(
  status: ErrorStatus,
  why: Why,
  protocol: Protocol | undefined,
  mayRepeat = true,
): ErrorResponse {
  if (status === 400) return errorResponse(status, 'text/plain; charset=utf-8', textOf(why));
  if (status === 404) return sessionNotFound(protocol);
  const saysWhen = mayRepeat && (status === 502 || status === 503);
  return problem(status, saysWhen ? RETRY_AFTER : undefined, titleOf(status, why));
}

/**
 * The status with which an app of that protocol responds to an unknown session; undefined if no status says so.
 * HOT PATH.
 */
export function unknownSessionStatus({ errorForm, isSoft }: Protocol): number | undefined {
  if (isSoft) return undefined;
  return errorForm === 'socket.io' ? ENGINE_IO_STATUS : 404;
}

function sessionNotFound(protocol: Protocol | undefined): ErrorResponse {
  switch (protocol?.errorForm) {
    case 'mcp':
      return rpcError(MCP_SESSION_NOT_FOUND);
    case 'mcp-task':
      return rpcError(MCP_TASK_NOT_FOUND);
    case 'socket.io': {
      const body = JSON.stringify(ENGINE_IO_SESSION_UNKNOWN);
      return { ...errorResponse(ENGINE_IO_STATUS, 'application/json', body), meaning: 404 };
    }
    case 'webdriver':
      return errorResponse(404, 'application/json; charset=utf-8', JSON.stringify(NO_SUCH_SESSION));
    case 'problem':
    case undefined:
      return problem(404);
  }
}

/** An error of JSON-RPC 2.0 (§5): its `id` is that of the request, or null where that is not known. */
function rpcError(error: RpcError): ErrorResponse {
  const bodyOf = (id: JsonRpcId | null): string => JSON.stringify({ jsonrpc: '2.0', error, id });
  return { ...errorResponse(404, 'application/json', bodyOf(null)), bodyFor: bodyOf };
}

function titleOf(status: ErrorStatus, why: Why): string {
  return why === 'overloaded' ? OVERLOADED : TITLES[status];
}

function problem(
  status: ErrorStatus,
  retryAfterSeconds?: string,
  title: string = TITLES[status],
): ErrorResponse {
  const problemDetails = { type: 'about:blank', title, status };
  const body = JSON.stringify(problemDetails);
  return errorResponse(status, 'application/problem+json', body, retryAfterSeconds);
}

function errorResponse(
  status: ErrorStatus,
  contentType: string,
  body: string,
  retryAfterSeconds?: string,
): ErrorResponse {
  const retryAfter = retryAfterSeconds === undefined ? [] : ['retry-after', retryAfterSeconds];
  const headers = [
    ...['content-type', contentType],
    // A 404 may be cached by default (RFC 9110 §15.1), this one must not.
    ...['cache-control', 'no-store'],
    ...retryAfter,
  ];
  return { status, headers, body };
}

function textOf(why: Why): string {
  return why === 'conflicting-ids'
    ? 'The request carries two different session ids.\n'
    : 'The request is malformed.\n';
}
