/** Game and document servers: Colyseus, y-websocket, Hocuspocus. */
import { JSON_OR_TEXT_TYPE, type RequestHead } from './heads.ts';
import { createReader, pathOf } from './id-locations.ts';
import type { IdReading, Protocol } from './protocol.ts';
import { decodeQueryText } from './query.ts';
import { readJsonIds } from './json-id.ts';

const readSeat = createReader({ in: 'query', name: 'sessionId', mayCarryHint: false });
const readRoomName = createReader({ in: 'query', name: 'room', mayCarryHint: false });

/**
 * Colyseus: a call of the matchmaker reserves a seat in a room of its own Machine, and the client takes the seat
 * with a WebSocket. `joinById` and `reconnect` name a room.
 */
export const COLYSEUS: Protocol = {
  name: 'colyseus',
  idLocations: [
    {
      in: 'path',
      pattern: /\/matchmake\/(?:joinById|reconnect)\/([^/]+)$/d,
      mark: '/matchmake/',
    },
    { in: 'websocket', read: readSeat },
  ],
  mintedBy: 'app',
  discoveries: [
    {
      from: 'body',
      mark: '/matchmake/',
      withinSession: true,
      mayRevealId: ({ method, target }) => method === 'POST' && target.includes('/matchmake/'),
      contentType: JSON_OR_TEXT_TYPE,
      begin: /[\s{]/,
      read: (body) => readJsonIds(body, [['sessionId'], ['roomId'], ['room', 'roomId']]),
    },
  ],
  errorForm: 'problem',
  endsBy: 'expiry',
  isMcp: false,
};

/** The room of a WebSocket: `room` in its query, else its path. */
function readRoom(head: RequestHead): IdReading {
  const named = readRoomName(head);
  if (named !== undefined) return named;
  const room = ROOM_PATH.exec(pathOf(head.target))?.[1];
  return room && decodeQueryText(room);
}

const ROOM_PATH = /^\/(.+)$/d;

/** The client chooses the room, and any Machine can open it. */
export function roomProtocol(name: string): Protocol {
  return {
    name,
    idLocations: [{ in: 'websocket', read: readRoom, inPath: ROOM_PATH }],
    mintedBy: 'client',
    discoveries: [],
    errorForm: 'problem',
    endsBy: 'expiry',
    isMcp: false,
  };
}
