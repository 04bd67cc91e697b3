/**
 * The common interface of the test app's servers: each handles the requests to some of its paths.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

export interface Door {
  /** A path that ends with a slash stands for all paths that begin with it. */
  readonly paths: readonly (string | RegExp)[];
  handle(request: IncomingMessage, response: ServerResponse): void | Promise<void>;
  /** Undefined: no WebSockets here. */
  readonly upgrade?: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
}

/** The responding process: state in memory exists only there. */
export interface Place {
  readonly machine: string;
  readonly pid: number;
}

export const HERE: Place = { machine: process.env.FLY_MACHINE_ID ?? '', pid: process.pid };

export function urlOf(request: IncomingMessage): URL {
  return new URL(request.url ?? '/', 'http://app');
}

export function respondJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}
