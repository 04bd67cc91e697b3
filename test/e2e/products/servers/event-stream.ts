/** The server's side of an event stream. */
import type { ServerResponse } from 'node:http';

export function beginEventStream(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
}

export function writeEvent(response: ServerResponse, data: unknown, name?: string): void {
  if (name !== undefined) response.write(`event: ${name}\n`);
  response.write(`data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`);
}
