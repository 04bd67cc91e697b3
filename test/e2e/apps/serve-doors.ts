/** The HTTP server of an app: hands each request to the door of its path. */
import { createServer, type Server } from 'node:http';
import { urlOf, type Door } from './door.ts';

/** Listens on the port that the environment names. */
export function serveDoors(doors: readonly Door[]): void {
  createServerOfDoors(doors).listen(Number(process.env.PORT), '127.0.0.1');
}

export function createServerOfDoors(doors: readonly Door[]): Server {
  const server = createServer((request, response) => {
    const door = doorOf(doors, urlOf(request).pathname);
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
    const door = doorOf(doors, urlOf(request).pathname);
    if (door?.upgrade) door.upgrade(request, socket, head);
    else socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n');
  });
  return server;
}

function doorOf(doors: readonly Door[], path: string): Door | undefined {
  const leadsTo = (known: string | RegExp): boolean => {
    if (typeof known !== 'string') return known.test(path);
    return known.endsWith('/') ? path.startsWith(known) : path === known;
  };
  return doors.find(({ paths }) => paths.some(leadsTo));
}
