/** Answers of the admin listener. */
import type { IncomingMessage, ServerResponse } from 'node:http';

export const TEXT_TYPE = 'text/plain; charset=utf-8';
export const JSON_TYPE = 'application/json; charset=utf-8';

/** For HEAD, node leaves the body out. */
export function respond(
  response: ServerResponse,
  status: number,
  type: string,
  body: string,
): void {
  const { req: request } = response;
  // Nobody waits for a body that is not wanted: the connection ends with the answer.
  if (!request.complete && hasBody(request)) response.setHeader('connection', 'close');
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
  });
  response.end(body);
}

export function respondJson(response: ServerResponse, status: number, body: object): void {
  respond(response, status, JSON_TYPE, `${JSON.stringify(body)}\n`);
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}
