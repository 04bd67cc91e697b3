/**
 * Where new sessions of client-minted ids are placed: whole sidecars that all compute the same
 * place.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { WebSocket } from 'ws';
import { once } from 'node:events';
import { until } from '../fleet/support.ts';
import { openFleet } from '../support/fleet.ts';
import { idPlacedOn, placeOf } from '../support/ids.ts';
import {
  ownersOf,
  requestRoom,
  requestPath,
  chunked,
  startEdgeBefore,
  startRoomMachine,
  startRooms,
  type RoomMachine,
} from '../support/rooms.ts';

const IDS = ['m1', 'm2', 'm3'];

describe('a new session of a client-minted id', () => {
  test('is replayed to its place, with the mark, from every other Machine', async (t) => {
    const { machines, machine, roomOn } = await startRooms(t, IDS);
    for (const place of IDS) {
      const room = roomOn(place);
      for (const other of machines.filter(({ id }) => id !== place)) {
        const { replay } = await requestRoom(other, room);
        const { instance, state, fallback, timeoutMs } = replay ?? {};
        assert.deepEqual(
          [instance, state, fallback, timeoutMs],
          [place, 'fly-affinity', 'prefer_self', 3_000],
        );
      }
      assert.equal((await requestRoom(machine(place), room)).body, place);
    }
  });

  test('is not claimed by a Machine that has only replayed it', async (t) => {
    const { machines, roomOn } = await startRooms(t, IDS);
    await requestRoom(machines[0] ?? assert.fail(), roomOn('m2'));
    assert.deepEqual(await ownersOf(machines, roomOn('m2')), [undefined, undefined, undefined]);
  });

  test('is claimed at its place once the app has accepted it, and all Machines learn that', async (t) => {
    const { machines, roomOn } = await startRooms(t, IDS);
    const edge = await startEdgeBefore(t, machines);
    const { body, way } = await edge.call('m1', roomOn('m2'));
    assert.deepEqual([body, way], ['m2', ['m1', 'm2']]);
    await until(async () =>
      (await ownersOf(machines, roomOn('m2'))).every((owner) => owner === 'm2'),
    );
  });

  test('is claimed by the 101 to an upgrade', async (t) => {
    const { machines, machine, roomOn } = await startRooms(t, IDS);
    const edge = await startEdgeBefore(t, machines);
    const url = edge.url.replace('http', 'ws');
    const headers = { 'fly-prefer-instance-id': 'm1' };
    const socket = new WebSocket(`${url}/?room=${roomOn('m2')}`, { headers });
    socket.on('error', () => undefined);
    await once(socket, 'upgrade');
    assert.equal(await machine('m2').ownerOf(roomOn('m2')), 'm2');
    socket.terminate();
  });

  for (const status of [404, 500, 302]) {
    test(`is not claimed if the app responds with ${status}`, async (t) => {
      const { machines, machine, roomOn } = await startRooms(t, IDS);
      machine('m2').app.status = status;
      const edge = await startEdgeBefore(t, machines);
      assert.equal((await edge.call('m1', roomOn('m2'))).status, status);
      assert.deepEqual(await ownersOf(machines, roomOn('m2')), [undefined, undefined, undefined]);
    });
  }

  test('joins the other clients of its room, wherever they arrive at the same moment', async (t) => {
    const { machines, ids } = await startRooms(t, IDS);
    const edge = await startEdgeBefore(t, machines);
    for (let i = 0; i < 10; i += 1) {
      const calls = [...ids, ...ids].map((first) => edge.call(first, `party-${i}`));
      const served = new Set((await Promise.all(calls)).map(({ body }) => body));
      assert.equal(served.size, 1);
    }
  });

  test('stays where it is when a Machine joins that would be its place', async (t) => {
    const fleet = await openFleet(t, ...IDS);
    const m1 = await startRoomMachine(t, fleet, 'm1');
    const m2 = await startRoomMachine(t, fleet, 'm2');
    const room = idPlacedOn('m3', IDS);
    const [owner, other] = placeOf(room, ['m1', 'm2']) === 'm1' ? [m1, m2] : [m2, m1];
    assert.equal((await requestRoom(owner, room)).body, owner.id);
    const m3 = await startRoomMachine(t, fleet, 'm3');
    for (const machine of [other, m3])
      assert.equal((await requestRoom(machine, room)).replay?.instance, owner.id);
    assert.equal((await requestRoom(owner, room)).body, owner.id);
  });
});

test('an id that only apps mint has no place: the app that receives it decides', async (t) => {
  const { machines } = await startRooms(t, IDS);
  for (const { id, url, app, ownerOf } of machines) {
    app.status = 404;
    const headers = { 'mcp-session-id': 'never-minted' };
    const { status, body, replay } = await requestPath(url, '/', { headers });
    assert.deepEqual([status, body, replay], [404, id, undefined]);
    assert.equal(await ownerOf('never-minted'), undefined);
  }
});

describe('a request that cannot be replayed', () => {
  test('is forwarded to the place of its new session with its whole body, and is claimed there', async (t) => {
    const { machine, roomOn } = await startRooms(t, IDS);
    const [m1, m2] = [machine('m1'), machine('m2')];
    const large = 'x'.repeat(1_500_000);
    const inits = [chunked('in chunks'), { method: 'POST', body: large }];
    for (const [i, init] of inits.entries()) {
      const room = roomOn('m2', `upload-${i}-`);
      assert.equal((await requestRoom(m1, room, init)).body, 'm2');
      assert.equal(await m2.ownerOf(room), 'm2');
    }
    assert.deepEqual(
      m2.app.got.map(({ body }) => body === 'in chunks' || body === large),
      [true, true],
    );
    assert.deepEqual(m1.app.got, []);
    assert.deepEqual(
      m1.requests.map(({ decision, why }) => [decision, why]),
      [
        ['forward', 'placed'],
        ['forward', 'placed'],
      ],
    );
  });

  test('is claimed by the place alone, and not at all if its app rejects it', async (t) => {
    const { machines, machine, roomOn } = await startRooms(t, IDS);
    machine('m2').app.status = 404;
    assert.equal((await requestRoom(machine('m1'), roomOn('m2'), chunked('a'))).status, 404);
    assert.deepEqual(await ownersOf(machines, roomOn('m2')), [undefined, undefined, undefined]);
  });
});

describe('among Machines of two regions', () => {
  const REGIONS = new Map([
    ['m1', 'iad'],
    ['m2', 'iad'],
    ['m3', 'fra'],
  ]);

  const id = idPlacedOn('m3', IDS);
  const inRegion = placeOf(id, ['m1', 'm2']);

  /** As a room, or in `x-session-id`. */
  async function placeBy(m1: RoomMachine, kind: 'query' | 'rpc'): Promise<string> {
    const response =
      kind === 'query'
        ? await requestRoom(m1, id)
        : await requestPath(m1.url, '/', { headers: { 'x-session-id': id } });
    return response.replay?.instance ?? response.body;
  }

  for (const [placement, query, rpc] of [
    [undefined, 'm3', inRegion],
    ['region', inRegion, inRegion],
    ['fleet', 'm3', 'm3'],
  ] as const) {
    test(`PLACEMENT=${placement ?? ''}: a room goes to ${query === 'm3' ? 'the fleet' : 'the region'}, x-session-id to ${rpc === 'm3' ? 'the fleet' : 'the region'}`, async (t) => {
      const fleet = await openFleet(t, ...IDS);
      const machines: RoomMachine[] = [];
      for (const id of IDS) {
        const env = {
          FLY_REGION: REGIONS.get(id) ?? '',
          ...(placement && { PLACEMENT: placement }),
        };
        machines.push(await startRoomMachine(t, fleet, id, env));
      }
      const [m1, , m3] = machines;
      assert.ok(m1 && m3);
      assert.deepEqual([await placeBy(m1, 'query'), await placeBy(m1, 'rpc')], [query, rpc]);
      assert.equal(await placeBy(m3, 'rpc'), 'm3', 'm3 is the only one of its region');
    });
  }

  test('Machines of the fleet are candidates when none of the region accepts sessions', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm3');
    const env = (id: string) => ({ FLY_REGION: REGIONS.get(id) ?? '', PLACEMENT: 'region' });
    const m1 = await startRoomMachine(t, fleet, 'm1', env('m1'));
    await startRoomMachine(t, fleet, 'm3', env('m3'));
    await m1.drain();
    const ids = Array.from({ length: 10 }, (_, i) => `r${i}`);
    for (const id of ids) assert.equal((await requestRoom(m1, id)).replay?.instance, 'm3');
  });
});
