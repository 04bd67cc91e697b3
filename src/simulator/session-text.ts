/**
 * What looks like a session to the simulated edge. Only the spreading asks, so as to be as unkind as
 * it can; on purpose it shares no code with the proxy that it tests.
 */

const HEADERS = ['mcp-session-id', 'x-session-id'] as const;
const QUERY_NAMES = ['session_id', 'sessionId', 'sid'] as const;

export function sessionTextOfRequest(
  headers: NodeJS.Dict<string | string[]>,
  target: string,
): string | undefined {
  const query = new URLSearchParams(target.split('?', 2)[1]);
  const inQuery = QUERY_NAMES.map((name) => query.get(name)).find((value) => value !== null);
  return sessionTextOfHeaders(headers) ?? inQuery ?? headers.cookie?.toString();
}

/** Of a request or of an answer that tells a new session's id. */
export function sessionTextOfHeaders(headers: NodeJS.Dict<string | string[]>): string | undefined {
  return HEADERS.map((name) => headers[name]?.toString()).find((value) => value !== undefined);
}
