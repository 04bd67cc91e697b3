/** Socket.IO, with its own server: polling, and the upgrade to a WebSocket. */
import { Server } from 'socket.io';
import { HERE, urlOf, type Door } from './door.ts';
import { noteEnded, noteOpened, noteRequest } from './journal.ts';
import { createServerDoor } from './server-door.ts';

/** Short enough for a client to be pinged during a test. */
const PING_INTERVAL_MS = 1_000;
/** Long enough for a busy computer. */
const PING_TIMEOUT_MS = 60_000;

export function createSocketIoDoor(): Door {
  const sessions = new Set<string>();

  function countFor(io: Server): void {
    io.on('connection', (socket) => {
      let count = 0;
      socket.on('count', (respond: (counted: object) => void) => {
        count += 1;
        respond({ ...HERE, count });
      });
      // Not a response: the server sends it on its own.
      socket.on('announce', () => socket.emit('news', { ...HERE, count }));
    });
  }

  return createServerDoor({
    path: '/socket.io/',
    attach: (server) => {
      const io = new Server(server, {
        serveClient: false,
        pingInterval: PING_INTERVAL_MS,
        pingTimeout: PING_TIMEOUT_MS,
      });
      countFor(io);
      // Requests name the engine's session; that of Socket.IO is internal.
      io.engine.on('connection', (connection: EngineSocket) => {
        const { id } = connection;
        sessions.add(id);
        noteOpened(id);
        connection.once('close', () => {
          sessions.delete(id);
          noteEnded(id);
        });
      });
    },
    note: (request) => {
      const id = urlOf(request).searchParams.get('sid');
      if (id !== null) noteRequest(request, id, sessions.has(id));
    },
  });
}

/** The part of Engine.IO that is used here. */
interface EngineSocket {
  readonly id: string;
  once(event: 'close', listener: () => void): void;
}
