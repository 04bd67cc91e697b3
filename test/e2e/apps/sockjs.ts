/** SockJS, with its own server: the client creates the session's id, which is part of the path. */
import { createServer, type Connection } from 'sockjs';
import { HERE, urlOf, type Door } from './door.ts';
import { noteEnded, noteOpened, noteRequest } from './journal.ts';
import { createServerDoor } from './server-door.ts';

const PREFIX = '/echo';
/** `/echo/<a number for load balancers>/<session>/<transport>` */
const SESSION = /^\/echo\/[^/.]+\/([^/.]+)\//;

export function createSockJsDoor(): Door {
  const sessions = new Set<string>();
  const sockjs = createServer({ prefix: PREFIX, log: () => undefined });

  sockjs.on('connection', (connection: Connection) => {
    const id = sessionOf(connection.pathname);
    if (id === undefined) return;
    let count = 0;
    sessions.add(id);
    noteOpened(id);
    connection.on('data', () => connection.write(JSON.stringify({ ...HERE, count: (count += 1) })));
    connection.on('close', () => {
      sessions.delete(id);
      noteEnded(id);
    });
  });

  return createServerDoor({
    path: `${PREFIX}/`,
    attach: (server) => void sockjs.installHandlers(server),
    note: (request) => {
      const id = sessionOf(urlOf(request).pathname);
      if (id !== undefined) noteRequest(request, id, sessions.has(id));
    },
  });
}

function sessionOf(path: string): string | undefined {
  return SESSION.exec(path)?.[1];
}
