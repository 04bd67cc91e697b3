/** Responses of the admin listener. */
import type { IncomingMessage, ServerResponse } from 'node:http';

export const TEXT_TYPE = 'text/plain; charset=utf-8';
export const JSON_TYPE = 'application/json; charset=utf-8';

/** A request that can't be served as it is: thrown by handlers, turned into a response by the router. */
export class HttpError extends Error {
  override readonly name = 'HttpError';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** For HEAD, node:http leaves out the body. */
export function respond(
  response: ServerResponse,
  status: number,
  type: string,
  body: string,
): void {
  const { req: request } = response;
  // Do not wait for a request body that nothing reads: close the connection after the response.
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
