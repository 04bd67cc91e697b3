/** Colyseus with its own transport; rooms and seats are in the memory of this process. */
import { LocalDriver, LocalPresence, Room, Server, type Client } from '@colyseus/core';
import { WebSocketTransport } from '@colyseus/ws-transport';
import { HERE, urlOf, type Door } from '../../apps/door.ts';
import { noteEnded, noteOpened, noteRequest } from '../../apps/journal.ts';

const RECONNECT_WITHIN_S = 60;
/** `/<process>/<room>`: ids of nine characters. */
const SOCKET = /^\/[\w-]{9}\/([\w-]{9})$/;
const MATCHMAKING = /^\/matchmake\/(?:joinById|reconnect)\/([^/]+)$/;

export async function createColyseusDoor(): Promise<Door> {
  const rooms = new Set<string>();

  class CountingRoom extends Room {
    #count = 0;

    override onCreate(): void {
      rooms.add(this.roomId);
      noteOpened(this.roomId);
      this.onMessage('count', (client: Client) => {
        client.send('counted', { ...HERE, count: (this.#count += 1) });
      });
    }

    override onDrop(client: Client): void {
      // It rejects when the client does not come back.
      this.allowReconnection(client, RECONNECT_WITHIN_S).catch(() => undefined);
    }

    override onDispose(): void {
      rooms.delete(this.roomId);
      noteEnded(this.roomId);
    }
  }

  const server = new Server({
    transport: new WebSocketTransport(),
    presence: new LocalPresence(),
    driver: new LocalDriver(),
    gracefullyShutdown: false,
    greet: false,
  });
  server.define('counting', CountingRoom);
  // Ready for requests, without a port.
  const http = await server.serverless();

  const note = (request: Parameters<Door['handle']>[0]): void => {
    const { pathname } = urlOf(request);
    const [, room] = MATCHMAKING.exec(pathname) ?? SOCKET.exec(pathname) ?? [];
    if (room !== undefined) noteRequest(request, room, rooms.has(room));
  };
  return {
    paths: ['/matchmake/', SOCKET],
    handle: (request, response) => {
      note(request);
      http.emit('request', request, response);
    },
    upgrade: (request, socket, head) => {
      note(request);
      http.emit('upgrade', request, socket, head);
    },
  };
}
