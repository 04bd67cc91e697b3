/** An owner that restarts with the same id and an empty store, while its peers still have copies of its bindings. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { idPlacedOn } from '../support/ids.ts';
import { openRooms, type Rooms } from './rooms-behind-edge.ts';

const IDS = ['m1', 'm2', 'm3'];

test('all clients of a room whose owner lost its store reach its placement Machine', async (t) => {
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

/** Opens a room that another Machine owns, because its placement Machine drains. Each try uses a new room. */
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
