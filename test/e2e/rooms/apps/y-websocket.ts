/** A server for clients of y-websocket; the room is in the path. */
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { noteJoined, noteStarted } from './room-journal.ts';
import { createYRooms } from './y-rooms.ts';

const rooms = createYRooms();
const server = createServer((_request, response) => {
  response.end('a WebSocket is expected');
});
const sockets = new WebSocketServer({ server });

sockets.on('connection', (socket, request) => {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://app');
  const name = pathname.slice(1);
  socket.on('close', noteJoined(name, searchParams.get('client') ?? ''));
  rooms.join(name, socket);
});

noteStarted();
server.listen(Number(process.env.PORT), '127.0.0.1');
