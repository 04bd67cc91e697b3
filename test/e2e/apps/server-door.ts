/**
 * Adapter for a library that takes its requests from an HTTP server: it gets one that does not
 * listen.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { Door } from './door.ts';

interface ServerDoorOptions {
  readonly path: string;
  readonly attach: (server: Server) => void;
  /** Called with each request before the library receives it. */
  readonly note: (request: IncomingMessage) => void;
}

export function createServerDoor({ path, attach, note }: ServerDoorOptions): Door {
  const server = createServer();
  attach(server);
  return {
    paths: [path],
    handle: (request, response) => {
      note(request);
      server.emit('request', request, response);
    },
    upgrade: (request, socket, head) => {
      note(request);
      server.emit('upgrade', request, socket, head);
    },
  };
}
