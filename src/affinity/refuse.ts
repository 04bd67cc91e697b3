/** How each protocol says no. Nothing from inside is shown: no id, no Machine, no error's text. */
import type { Why } from './decide.ts';
import type { Protocol } from './protocol.ts';

export interface Refusal {
  readonly status: number;
  /** Name, value, name, value. The length is for the wire to say. */
  readonly headers: readonly string[];
  readonly body: string;
}

export type RefusalStatus = 400 | 404 | 421 | 502 | 503 | 504;

/** Seconds after which trying again makes sense: the owner restarts, the app comes up. */
const RETRY_AFTER = '1';

const TITLES: Readonly<Record<RefusalStatus, string>> = {
  400: 'Bad Request',
  404: 'Session not found',
  421: 'Misdirected Request',
  502: 'The app does not answer',
  503: 'The session can not be reached right now',
  504: 'The app took too long to answer',
};

/** What a client of MCP's own SDKs expects to hear of an unknown session, so that it starts anew. */
const MCP_SESSION_NOT_FOUND = {
  jsonrpc: '2.0',
  error: { code: -32001, message: 'Session not found' },
  id: null,
};

/** The answer for a request that is refused; `protocol` is the one of its session id, if it has any. */
export function refusalFor(
  status: RefusalStatus,
  why: Why,
  protocol: Protocol | undefined,
): Refusal {
  if (status === 400) return refusal(status, 'text/plain; charset=utf-8', textOf(why));
  if (status === 404 && protocol?.refusal === 'mcp') {
    return refusal(status, 'application/json', JSON.stringify(MCP_SESSION_NOT_FOUND));
  }
  const problem = { type: 'about:blank', title: TITLES[status], status };
  return refusal(status, 'application/problem+json', JSON.stringify(problem));
}

function refusal(status: RefusalStatus, contentType: string, body: string): Refusal {
  const retryAfter = status === 502 || status === 503 ? ['retry-after', RETRY_AFTER] : [];
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
