/** Colyseus' own SDK: players who create a room, join it by its id, and reconnect. */
import assert from 'node:assert/strict';
import { Client, type Room } from '@colyseus/sdk';
import { Counted } from '../../support/mcp-client.ts';
import { retryingFetch } from '../../support/retrying-fetch.ts';
import type { Target } from '../../support/target.ts';

const PLAYERS_OF_EACH_HALF = 3;

export async function runColyseus({ url }: Target, midway: () => Promise<void>): Promise<void> {
  const client = new Client(url, { fetchFn: retryingFetch });
  const host = await client.create('counting');
  // Without it the SDK does not connect again after a socket is cut early.
  host.reconnection.minUptime = 0;
  const { machine, pid } = await call(host);
  let count = 1;
  const expectNext = async (room: Room): Promise<void> => {
    assert.deepEqual(await call(room), { machine, pid, count: (count += 1) });
  };
  const play = async (): Promise<void> => {
    for (let players = 1; players <= PLAYERS_OF_EACH_HALF; players += 1) {
      const guest = await client.joinById(host.roomId);
      await expectNext(guest);
      const { reconnectionToken } = guest;
      guest.reconnection.enabled = false;
      // As if its connection was lost.
      await guest.leave(false);
      const again = await client.reconnect(reconnectionToken);
      assert.equal(again.sessionId, guest.sessionId);
      await expectNext(again);
      await again.leave();
    }
    await expectNext(host);
  };
  await play();
  await midway();
  await play();
  await host.leave();
}

/** Messages that cannot be sent while it reconnects are sent afterwards. */
function call(room: Room): Promise<Counted> {
  return new Promise((resolve, reject) => {
    room.onLeave.once((code) => reject(new Error(`left with ${code}`)));
    const unlisten = room.onMessage('counted', (message: unknown) => {
      unlisten();
      resolve(Counted.parse(message));
    });
    room.send('count');
  });
}
