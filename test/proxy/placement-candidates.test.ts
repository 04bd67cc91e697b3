/** Machines that accept no new sessions are not placement candidates. Their peers know it from heartbeats. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { until } from '../fleet/support.ts';
import { openFleet } from '../support/fleet.ts';
import { idPlacedOn, placeOf } from '../support/ids.ts';
import {
  requestRoom,
  startRoomMachine,
  startRooms,
  type RoomFleet,
  type RoomMachine,
} from '../support/rooms.ts';

const IDS = ['m1', 'm2', 'm3'];
const ROOMS = Array.from({ length: 12 }, (_, i) => `corner${i}`);

/** The placement of a room without an owner, as this Machine computes it. */
async function placementBy(machine: RoomMachine, room: string): Promise<string> {
  // A rejected room stays unclaimed, so it can be requested again.
  machine.app.status = 500;
  const { replay, body } = await requestRoom(machine, room);
  machine.app.status = 200;
  return replay?.instance ?? body;
}

/** Waits until all Machines place the rooms among these candidates. */
async function untilPlacedAmong(
  { machines }: Pick<RoomFleet, 'machines'>,
  candidates: readonly string[],
) {
  const expected = ROOMS.map((room) => placeOf(room, candidates));
  for (const machine of machines) {
    await until(async () => {
      for (const [i, room] of ROOMS.entries())
        if ((await placementBy(machine, room)) !== expected[i]) return false;
      return true;
    });
  }
}

test('a draining Machine gets no new sessions, and keeps its own', async (t) => {
  const rooms = await startRooms(t, IDS);
  const m2 = rooms.machine('m2');
  const old = rooms.roomOn('m2', 'old');
  assert.equal((await requestRoom(m2, old)).body, 'm2');
  await until(async () => (await rooms.machine('m1').ownerOf(old)) === 'm2');
  await untilPlacedAmong(rooms, IDS);
  await m2.drain();
  await untilPlacedAmong(rooms, ['m1', 'm3']);
  assert.equal((await requestRoom(rooms.machine('m1'), old)).replay?.instance, 'm2');
  assert.equal((await requestRoom(m2, old)).body, 'm2');
});

test('a Machine at its session limit gets no new sessions', async (t) => {
  const fleet = await openFleet(t, ...IDS);
  const machines: RoomMachine[] = [];
  for (const id of IDS) {
    const env = id === 'm2' ? { MAX_SESSIONS_PER_MACHINE: '1' } : {};
    machines.push(await startRoomMachine(t, fleet, id, env));
  }
  const [, m2] = machines;
  assert.ok(m2);
  const first = idPlacedOn('m2', IDS, 'first');
  assert.equal((await requestRoom(m2, first)).body, 'm2');
  await untilPlacedAmong({ machines }, ['m1', 'm3']);
  assert.equal((await requestRoom(m2, first)).body, 'm2');
});

test('a Machine whose app is down gets no new sessions', async (t) => {
  const fleet = await openFleet(t, ...IDS);
  const machines: RoomMachine[] = [];
  // Nothing listens on port 1.
  const down = { UPSTREAM_URL: 'http://127.0.0.1:1' };
  for (const id of IDS)
    machines.push(await startRoomMachine(t, fleet, id, id === 'm2' ? down : {}));
  const [m1, m2] = machines;
  assert.ok(m1 && m2);
  assert.equal((await requestRoom(m2, idPlacedOn('m2', IDS, 'lost'))).status, 502);
  await untilPlacedAmong({ machines }, ['m1', 'm3']);
});

describe('if no Machine accepts new sessions', () => {
  test('all running Machines are candidates', async (t) => {
    const rooms = await startRooms(t, IDS);
    for (const machine of rooms.machines) await machine.drain();
    await untilPlacedAmong(rooms, IDS);
    const [m1, room] = [rooms.machine('m1'), rooms.roomOn('m1', 'late')];
    assert.equal((await requestRoom(m1, room)).body, 'm1');
    assert.equal(await m1.ownerOf(room), 'm1');
  });

  test('and no other runs, this Machine is the only candidate', async (t) => {
    const rooms = await startRooms(t, IDS);
    const m1 = rooms.machine('m1');
    for (const id of ['m2', 'm3']) {
      rooms.fleet.lines.get(id)?.refuse();
      await rooms.machine(id).sidecar.stop();
    }
    await m1.drain();
    await until(async () => (await m1.readiness()).silent === 2);
    for (const place of IDS) assert.equal((await requestRoom(m1, rooms.roomOn(place))).body, 'm1');
  });

  test('and there is no other, this Machine is the only candidate', async (t) => {
    const fleet = await openFleet(t, 'm1');
    const m1 = await startRoomMachine(t, fleet, 'm1', { FLEET: 'off' });
    await m1.drain();
    assert.equal((await requestRoom(m1, 'alone')).body, 'm1');
    assert.equal(await m1.ownerOf('alone'), 'm1');
  });
});
