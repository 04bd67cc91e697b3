/**
 * Rooms for clients of y-websocket, with the documents in memory. `@y/websocket-server` does the
 * same, but installs a native database with it.
 */
import * as decoding from 'lib0/decoding';
import * as encoding from 'lib0/encoding';
import type { WebSocket } from 'ws';
import { readSyncMessage, writeSyncStep1, writeUpdate } from 'y-protocols/sync';
import { Doc } from 'yjs';

/** https://github.com/yjs/y-protocols: the first number of a message. */
const SYNC = 0;

interface Room {
  readonly document: Doc;
  readonly members: Set<WebSocket>;
}

interface YRooms {
  has(name: string): boolean;
  /** The room exists from its first socket on. */
  join(name: string, socket: WebSocket): void;
}

export function createYRooms(): YRooms {
  const rooms = new Map<string, Room>();

  function roomOf(name: string): Room {
    const known = rooms.get(name);
    if (known) return known;
    const room = createRoom();
    rooms.set(name, room);
    return room;
  }

  return {
    has: (name) => rooms.has(name),
    join: (name, socket) => {
      const room = roomOf(name);
      room.members.add(socket);
      socket.on('close', () => room.members.delete(socket));
      socket.on('error', console.error);
      socket.on('message', (data: Buffer) => receive(new Uint8Array(data), socket, room));
      const question = encoding.createEncoder();
      encoding.writeVarUint(question, SYNC);
      writeSyncStep1(question, room.document);
      socket.send(encoding.toUint8Array(question));
    },
  };
}

function createRoom(): Room {
  const room: Room = { document: new Doc(), members: new Set() };
  room.document.on('update', (update: Uint8Array) => {
    const message = encoding.createEncoder();
    encoding.writeVarUint(message, SYNC);
    writeUpdate(message, update);
    sendToAll(room, encoding.toUint8Array(message));
  });
  return room;
}

function receive(message: Uint8Array, socket: WebSocket, room: Room): void {
  const decoder = decoding.createDecoder(message);
  if (decoding.readVarUint(decoder) !== SYNC) {
    // Presence: only the clients hold it.
    sendToAll(room, message);
    return;
  }
  const reply = encoding.createEncoder();
  encoding.writeVarUint(reply, SYNC);
  readSyncMessage(decoder, reply, room.document, socket);
  if (encoding.length(reply) > 1) socket.send(encoding.toUint8Array(reply));
}

function sendToAll({ members }: Room, message: Uint8Array): void {
  for (const member of members) member.send(message);
}
