/**
 * Chat rooms in memory, named by their clients in `x-session-id`: a client that joins receives the
 * history.
 */
import { createServer } from 'node:http';
import { WebSocketServer, type WebSocket } from 'ws';
import { noteJoined, noteStarted } from './room-journal.ts';

interface Room {
  readonly messages: Set<string>;
  readonly members: Set<WebSocket>;
}

const rooms = new Map<string, Room>();
const server = createServer((_request, response) => {
  response.end('a WebSocket is expected');
});
const sockets = new WebSocketServer({ server });

sockets.on('connection', (socket, request) => {
  const name = request.headers['x-session-id']?.toString() ?? '';
  const room = rooms.get(name) ?? { messages: new Set<string>(), members: new Set<WebSocket>() };
  rooms.set(name, room);
  room.members.add(socket);
  const { searchParams } = new URL(request.url ?? '/', 'http://app');
  const noteLeft = noteJoined(name, searchParams.get('client') ?? '');
  socket.on('close', () => {
    room.members.delete(socket);
    noteLeft();
  });
  socket.on('error', console.error);
  socket.on('message', (data: Buffer) => {
    const text = data.toString();
    // A client that has reconnected sends its earlier messages again.
    if (room.messages.has(text)) return;
    room.messages.add(text);
    for (const member of room.members) member.send(text);
  });
  for (const text of room.messages) socket.send(text);
});

noteStarted();
server.listen(Number(process.env.PORT), '127.0.0.1');
