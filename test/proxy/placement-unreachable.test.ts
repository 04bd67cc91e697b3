/** New sessions whose placement Machine is unreachable, rejects them, or knows another owner: complete sidecars. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { once } from 'node:events';
import { describe, test, type TestContext } from 'node:test';
import { until } from '../fleet/support.ts';
import { openFleet } from '../support/fleet.ts';
import { idPlacedOn, placeOf } from '../support/ids.ts';
import { serveRawApp } from '../support/raw-app.ts';
import {
  requestRoom,
  chunked,
  replayedBy,
  startEdgeBefore,
  startRoomMachine,
  startRooms,
  withoutHeartbeats,
  type RoomResponse,
  type RoomFleet,
} from '../support/rooms.ts';

const IDS = ['m1', 'm2', 'm3'];
const IN_CHUNKS = { 'transfer-encoding': 'chunked' };
/** Without heartbeats an unreachable Machine stays a placement candidate. */
const WITHOUT_HEARTBEATS = { clock: withoutHeartbeats };

function assertRetryLater({ status, headers }: RoomResponse): void {
  assert.deepEqual([status, headers.get('retry-after')], [503, '1']);
}

function startWithoutHeartbeats(t: TestContext): Promise<RoomFleet> {
  return startRooms(t, IDS, {}, WITHOUT_HEARTBEATS);
}

describe('if the placement Machine of a new session refuses connections', () => {
  for (const [name, body, length] of [
    ['in chunks', Buffer.from('in chunks'), IN_CHUNKS],
    ['of 1.5 MB in chunks', Buffer.alloc(1_500_000, 'c'), IN_CHUNKS],
    ['of 1.5 MB', Buffer.alloc(1_500_000, 'l'), { 'content-length': '1500000' }],
  ] as const) {
    test(`a request with a body ${name} is served and claimed on this Machine, with its complete body`, async (t) => {
      const { machine, fleet, roomOn } = await startWithoutHeartbeats(t);
      const m1 = machine('m1');
      const room = roomOn('m2');
      fleet.lines.get('m2')?.refuse();
      const clientRequest = request(`${m1.url}/?room=${room}`, { method: 'POST', headers: length });
      // The agent does not reuse this connection.
      clientRequest.setHeader('connection', 'close');
      clientRequest.end(body);
      const [response] = (await once(clientRequest, 'response')) as [NodeJS.ReadableStream];
      response.resume();
      await once(response, 'end');
      assert.deepEqual(
        m1.app.got.map((got) => got.body === body.toString()),
        [true],
      );
      assert.equal(await m1.ownerOf(room), 'm1');
      assert.deepEqual(
        m1.requests.map(({ decision, why, status }) => [decision, why, status]),
        [['local', 'placed', 200]],
      );
    });
  }

  test('a replayed request is served by the target of the replay', async (t) => {
    const { machine, fleet, roomOn } = await startWithoutHeartbeats(t);
    const m1 = machine('m1');
    fleet.lines.get('m2')?.refuse();
    const headers = replayedBy('m3');
    const response = await requestRoom(m1, roomOn('m2'), { headers });
    assert.deepEqual([response.status, response.body], [200, 'm1']);
    assert.equal(await m1.ownerOf(roomOn('m2')), 'm1');
  });

  test('a request that the edge returns is served and claimed on this Machine', async (t) => {
    const { machines, machine, fleet, roomOn } = await startWithoutHeartbeats(t);
    const reachable = machines.filter(({ id }) => id !== 'm2');
    const edge = await startEdgeBefore(t, reachable);
    fleet.lines.get('m2')?.refuse();
    const response = await edge.call('m1', roomOn('m2'));
    assert.deepEqual([response.status, response.body, response.way], [200, 'm1', ['m1', 'm1']]);
    assert.equal(await machine('m1').ownerOf(roomOn('m2')), 'm1');
  });

  test('a session that the app rejects is not claimed', async (t) => {
    const { machine, fleet, roomOn } = await startWithoutHeartbeats(t);
    machine('m1').app.status = 500;
    fleet.lines.get('m2')?.refuse();
    assert.equal((await requestRoom(machine('m1'), roomOn('m2'), chunked('a'))).status, 500);
    assert.equal(await machine('m1').ownerOf(roomOn('m2')), undefined);
  });
});

test('returns 503 with Retry-After and claims nothing if the placement Machine closes the connection without a response', async (t) => {
  const { machine, fleet, roomOn } = await startWithoutHeartbeats(t);
  const m1 = machine('m1');
  const closingPort = await serveRawApp(t, (socket) => socket.destroy());
  fleet.lines.get('m2')?.leadTo(closingPort);
  assertRetryLater(await requestRoom(m1, roomOn('m2'), chunked('a')));
  assert.deepEqual(m1.app.got, []);
  assert.equal(await m1.ownerOf(roomOn('m2')), undefined);
  assert.deepEqual(
    m1.requests.map(({ decision, why }) => [decision, why]),
    [['forward', 'placed']],
  );
});

describe('while a possible owner of the session is unresponsive', () => {
  test('a 404 of the app on the placement Machine becomes 503 with Retry-After', async (t) => {
    const { machines, machine, cut, roomOn } = await startWithoutHeartbeats(t);
    const edge = await startEdgeBefore(t, machines);
    machine('m1').app.status = 404;
    cut('m3');
    const room = roomOn('m1');
    for (const first of ['m1', 'm2']) assertRetryLater(await edge.call(first, room));
    assertRetryLater(await requestRoom(machine('m2'), room, chunked('a')));
    assert.equal(machine('m1').app.got.length, 3);
    assert.equal(await machine('m1').ownerOf(room), undefined);
  });

  test('a session that the app accepts is claimed on the placement Machine', async (t) => {
    const { machines, machine, cut, roomOn } = await startWithoutHeartbeats(t);
    const edge = await startEdgeBefore(t, machines);
    cut('m3');
    const response = await edge.call('m2', roomOn('m1'));
    assert.deepEqual([response.status, response.body], [200, 'm1']);
    assert.equal(await machine('m1').ownerOf(roomOn('m1')), 'm1');
  });

  test('another status of the app reaches the client', async (t) => {
    const { machine, cut, roomOn } = await startWithoutHeartbeats(t);
    machine('m1').app.status = 403;
    cut('m3');
    assert.equal((await requestRoom(machine('m1'), roomOn('m1'))).status, 403);
  });

  test('a Machine that has not heard from all peers yet places no new session', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    // m2 does not know m1, and rejects its queries.
    await startRoomMachine(t, fleet, 'm2', { FLEET: 'm9@127.0.0.1:9' }, WITHOUT_HEARTBEATS);
    const m1 = await startRoomMachine(t, fleet, 'm1', {}, WITHOUT_HEARTBEATS);
    for (const place of ['m1', 'm2'])
      assertRetryLater(await requestRoom(m1, idPlacedOn(place, ['m1', 'm2'])));
    assert.deepEqual(m1.app.got, []);
  });
});

describe('if two Machines list different fleets', () => {
  /** The fleet list without these Machines. */
  const without = (list: string, ...ids: string[]): string =>
    list
      .split(',')
      .filter((entry) => !ids.some((id) => entry.startsWith(`${id}@`)))
      .join();

  test('the target of a replay forwards the request once, and the placement Machine claims the session', async (t) => {
    const fleet = await openFleet(t, ...IDS);
    const m1 = await startRoomMachine(t, fleet, 'm1', { FLEET: without(fleet.list, 'm3') });
    const m2 = await startRoomMachine(t, fleet, 'm2');
    const m3 = await startRoomMachine(t, fleet, 'm3');
    const edge = await startEdgeBefore(t, [m1, m2, m3]);
    const room = Array.from({ length: 100 }, (_, i) => `room${i}`).find(
      (id) => placeOf(id, IDS) === 'm3' && placeOf(id, ['m1', 'm2']) === 'm2',
    );
    assert.ok(room);
    const response = await edge.call('m1', room);
    assert.deepEqual([response.body, response.way], ['m3', ['m1', 'm2']]);
    assert.deepEqual(
      m2.requests.map(({ decision, why }) => [decision, why]),
      [['forward', 'placed']],
    );
    assert.deepEqual([await m3.ownerOf(room), await m1.ownerOf(room)], ['m3', undefined]);
    await until(async () => (await m2.ownerOf(room)) === 'm3');
  });

  test('a placement Machine that knows another owner forwards a replay to it, and a forward returns 503 with Retry-After', async (t) => {
    const fleet = await openFleet(t, ...IDS);
    const m3 = await startRoomMachine(t, fleet, 'm3');
    const m1 = await startRoomMachine(t, fleet, 'm1', { FLEET: without(fleet.list, 'm2') });
    const m2 = await startRoomMachine(t, fleet, 'm2', { FLEET: without(fleet.list, 'm1') });
    const edge = await startEdgeBefore(t, [m1, m2, m3]);
    const room = Array.from({ length: 100 }, (_, i) => `room${i}`).find(
      (id) => placeOf(id, ['m1', 'm3']) === 'm1' && placeOf(id, ['m2', 'm3']) === 'm3',
    );
    assert.ok(room);
    assert.equal((await requestRoom(m1, room)).body, 'm1');
    await until(async () => (await m3.ownerOf(room)) === 'm1');

    assertRetryLater(await requestRoom(m2, room, chunked('a')));
    assert.deepEqual(
      m3.requests.map(({ decision, why, status }) => [decision, why, status]),
      [['refuse', 'moved', 421]],
    );
    const response = await edge.call('m2', room);
    assert.deepEqual([response.body, response.way], ['m1', ['m2', 'm3']]);
    assert.deepEqual([await m2.ownerOf(room), await m3.ownerOf(room)], [undefined, 'm1']);
  });
});
