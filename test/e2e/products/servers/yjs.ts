/** Rooms of y-websocket; the room is in the path, or in the query. */
import { WebSocketServer } from 'ws';
import { respondJson, urlOf, type Door } from '../../apps/door.ts';
import { noteOpened, noteRequest } from '../../apps/journal.ts';
import { createYRooms } from '../../rooms/apps/y-rooms.ts';

const PATH = '/yjs/';

export function createYjsDoor(): Door {
  const rooms = createYRooms();
  const sockets = new WebSocketServer({ noServer: true });
  return {
    paths: [PATH],
    handle: (_request, response) => respondJson(response, 426, { error: 'WebSocket only' }),
    upgrade: (request, socket, head) => {
      const { pathname, searchParams } = urlOf(request);
      const room = searchParams.get('room') ?? pathname.slice(PATH.length);
      sockets.handleUpgrade(request, socket, head, (client) => {
        noteRequest(request, room, rooms.has(room));
        if (!rooms.has(room)) noteOpened(room);
        rooms.join(room, client);
      });
    },
  };
}
