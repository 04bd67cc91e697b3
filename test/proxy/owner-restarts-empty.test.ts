/** An owner that comes back under its id without its store, while the others still have copies of what it had. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { idPlacedOn } from '../support/ids.ts';
import { openRooms, type Rooms } from './rooms-behind-edge.ts';

const IDS = ['m1', 'm2', 'm3'];

test('the room of an owner that has lost its store opens where it is placed now, for all of its clients', async (t) => {
  const rooms = await openRooms(t, ...IDS);
  for (const id of IDS) await rooms.start(id);
  await rooms.openEdge();
  await rooms.machine('m3').admin('POST', '/drain');
  const { room, owner } = await openRoomPlacedOn('m3', rooms);
  await rooms.machine('m3').admin('POST', '/undrain');
  for (const id of IDS) assert.equal((await rooms.call(id, room)).by, owner);

  const restarted = rooms.machine(owner);
  await restarted.stop();
  await restarted.startAgain();

  const seen = await Promise.all(
    ['m2', 'm3', 'm1', 'm2', 'm3'].map((first) => rooms.call(first, room)),
  );
  const later = await Promise.all(IDS.map((first) => rooms.call(first, room)));
  for (const { status, by } of [...seen, ...later]) assert.deepEqual([status, by], [200, 'm3']);
});

/** A room that another Machine has got, as the one on which it is placed takes none: each try is a new room. */
async function openRoomPlacedOn(
  machine: string,
  rooms: Rooms,
): Promise<{ readonly room: string; readonly owner: string }> {
  for (let tries = 0; ; tries += 1) {
    const room = `/rooms/${idPlacedOn(machine, IDS, `try${tries}-`)}`;
    const { status, by } = await rooms.call('m1', room);
    assert.equal(status, 200);
    if (by !== machine) return { room, owner: by };
  }
}
