import { randomUUID } from 'node:crypto';
import { openYWebSocketClient } from '../../rooms/clients/y-websocket.ts';
import type { Target } from '../../support/target.ts';
import { meetInRooms } from './rooms.ts';

/** The room is in the path, as y-websocket puts it there. */
export async function runYjs({ url }: Target, midway: () => Promise<void>): Promise<void> {
  // Each client listens for the end of the process.
  process.setMaxListeners(0);
  await meetInRooms(
    [`room-${randomUUID()}`, `room-${randomUUID()}`],
    (room, client) => openYWebSocketClient({ url: `${url}/yjs`, room, client }),
    midway,
  );
}
