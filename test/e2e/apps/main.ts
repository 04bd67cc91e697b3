/**
 * The app of the end-to-end tests: stateful servers of several kinds in one process, with their
 * sessions in its memory. It does not know its Machine's peers, but each response names its own
 * Machine.
 */
import { createServer } from 'node:http';
import { createCookieDoor } from './cookie.ts';
import { urlOf, type Door } from './door.ts';
import { createGraphQlDoor } from './graphql.ts';
import { createMcpSseDoor } from './mcp-sse.ts';
import { createMcpDoor } from './mcp.ts';
import { createRpcDoor } from './rpc.ts';
import { createSignalRDoor } from './signalr.ts';
import { createSocketIoDoor } from './socket-io.ts';
import { createSockJsDoor } from './sockjs.ts';
import { createVisitsDoor } from './visits.ts';

const doors = [
  createMcpDoor(),
  createMcpSseDoor(),
  createRpcDoor(),
  createCookieDoor(),
  createSocketIoDoor(),
  createSockJsDoor(),
  createSignalRDoor(),
  createGraphQlDoor(),
  createVisitsDoor(),
];

function doorOf(path: string): Door | undefined {
  const leadsTo = (known: string): boolean =>
    known.endsWith('/') ? path.startsWith(known) : path === known;
  return doors.find(({ paths }) => paths.some(leadsTo));
}

const server = createServer((request, response) => {
  const door = doorOf(urlOf(request).pathname);
  if (!door) {
    response.writeHead(404).end('no such path');
    return;
  }
  Promise.resolve(door.handle(request, response)).catch((error: unknown) => {
    console.error(error);
    response.destroy();
  });
});

server.on('upgrade', (request, socket, head: Buffer) => {
  const door = doorOf(urlOf(request).pathname);
  if (door?.upgrade) door.upgrade(request, socket, head);
  else socket.destroy();
});

server.listen(Number(process.env.PORT), '127.0.0.1');
