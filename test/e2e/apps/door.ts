/** What the servers of the test app have in common: each takes the requests to some of its paths. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

export interface Door {
  /** One that ends with a slash stands for all that begin with it. */
  readonly paths: readonly string[];
  handle(request: IncomingMessage, response: ServerResponse): void | Promise<void>;
  /** Undefined: no WebSockets here. */
  readonly upgrade?: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
}

/** Which process says so: state in memory is in this one alone. */
export interface Place {
  readonly machine: string;
  readonly pid: number;
}

export const HERE: Place = { machine: process.env.FLY_MACHINE_ID ?? '', pid: process.pid };

export function urlOf(request: IncomingMessage): URL {
  return new URL(request.url ?? '/', 'http://app');
}

export function answerJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}
