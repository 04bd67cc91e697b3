/** The place of a new session can't be reached, says no, or knows better: whole sidecars. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { once } from 'node:events';
import { describe, test, type TestContext } from 'node:test';
import { until } from '../fleet/support.ts';
import { openFleet } from '../support/fleet.ts';
import { idPlacedOn, placeOf } from '../support/ids.ts';
import { serveRawApp } from '../support/raw-app.ts';
import {
  ask,
  chunked,
  replayedBy,
  startEdgeBefore,
  startRoomMachine,
  startRooms,
  withoutHeartbeats,
  type Answer,
  type RoomFleet,
} from '../support/rooms.ts';

const IDS = ['m1', 'm2', 'm3'];
const IN_CHUNKS = { 'transfer-encoding': 'chunked' };
/** Whoever can't be reached is a candidate still. */
const UNNOTICED = { clock: withoutHeartbeats };

function isToldToTryAgain({ status, headers }: Answer): void {
  assert.deepEqual([status, headers.get('retry-after')], [503, '1']);
}

function startUnnoticed(t: TestContext): Promise<RoomFleet> {
  return startRooms(t, IDS, {}, UNNOTICED);
}

describe('where nobody listens at the place of a new session', () => {
  for (const [name, body, length] of [
    ['in chunks', Buffer.from('in chunks'), IN_CHUNKS],
    ['of 1.5 MB in chunks', Buffer.alloc(1_500_000, 'c'), IN_CHUNKS],
    ['of 1.5 MB', Buffer.alloc(1_500_000, 'l'), { 'content-length': '1500000' }],
  ] as const) {
    test(`a request with a body ${name} is served and claimed where it is, with all of its body`, async (t) => {
      const { machine, fleet, roomOn } = await startUnnoticed(t);
      const m1 = machine('m1');
      const room = roomOn('m2');
      fleet.lines.get('m2')?.refuse();
      const sent = request(`${m1.url}/?room=${room}`, { method: 'POST', headers: length });
      // Its connection does not wait in the pool of others.
      sent.setHeader('connection', 'close');
      sent.end(body);
      const [response] = (await once(sent, 'response')) as [NodeJS.ReadableStream];
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

  test('a request that has been replayed to somebody is served there all the same', async (t) => {
    const { machine, fleet, roomOn } = await startUnnoticed(t);
    const m1 = machine('m1');
    fleet.lines.get('m2')?.refuse();
    const headers = replayedBy('m3');
    const answer = await ask(m1, roomOn('m2'), { headers });
    assert.deepEqual([answer.status, answer.body], [200, 'm1']);
    assert.equal(await m1.ownerOf(roomOn('m2')), 'm1');
  });

  test('a request that the edge brings back is served where it is, and claimed', async (t) => {
    const { machines, machine, fleet, roomOn } = await startUnnoticed(t);
    const reachable = machines.filter(({ id }) => id !== 'm2');
    const edge = await startEdgeBefore(t, reachable);
    fleet.lines.get('m2')?.refuse();
    const answer = await edge.call('m1', roomOn('m2'));
    assert.deepEqual([answer.status, answer.body, answer.way], [200, 'm1', ['m1', 'm1']]);
    assert.equal(await machine('m1').ownerOf(roomOn('m2')), 'm1');
  });

  test('what the app refuses is claimed by nobody', async (t) => {
    const { machine, fleet, roomOn } = await startUnnoticed(t);
    machine('m1').app.status = 500;
    fleet.lines.get('m2')?.refuse();
    assert.equal((await ask(machine('m1'), roomOn('m2'), chunked('a'))).status, 500);
    assert.equal(await machine('m1').ownerOf(roomOn('m2')), undefined);
  });
});

test('a place that takes the connection and ends without a response may have served: 503 with Retry-After, and nothing is claimed', async (t) => {
  const { machine, fleet, roomOn } = await startUnnoticed(t);
  const m1 = machine('m1');
  const dying = await serveRawApp(t, (socket) => socket.destroy());
  fleet.lines.get('m2')?.leadTo(dying);
  isToldToTryAgain(await ask(m1, roomOn('m2'), chunked('a')));
  assert.deepEqual(m1.app.got, []);
  assert.equal(await m1.ownerOf(roomOn('m2')), undefined);
  assert.deepEqual(
    m1.requests.map(({ decision, why }) => [decision, why]),
    [['forward', 'placed']],
  );
});

describe('while a Machine that may have the session does not answer', () => {
  test("the place's app is asked, and its 404 becomes 503 with Retry-After", async (t) => {
    const { machines, machine, cut, roomOn } = await startUnnoticed(t);
    const edge = await startEdgeBefore(t, machines);
    machine('m1').app.status = 404;
    cut('m3');
    const room = roomOn('m1');
    for (const first of ['m1', 'm2']) isToldToTryAgain(await edge.call(first, room));
    isToldToTryAgain(await ask(machine('m2'), room, chunked('a')));
    assert.equal(machine('m1').app.got.length, 3);
    assert.equal(await machine('m1').ownerOf(room), undefined);
  });

  test('what the app accepts is claimed at the place', async (t) => {
    const { machines, machine, cut, roomOn } = await startUnnoticed(t);
    const edge = await startEdgeBefore(t, machines);
    cut('m3');
    const answer = await edge.call('m2', roomOn('m1'));
    assert.deepEqual([answer.status, answer.body], [200, 'm1']);
    assert.equal(await machine('m1').ownerOf(roomOn('m1')), 'm1');
  });

  test('another status of the app reaches the client', async (t) => {
    const { machine, cut, roomOn } = await startUnnoticed(t);
    machine('m1').app.status = 403;
    cut('m3');
    assert.equal((await ask(machine('m1'), roomOn('m1'))).status, 403);
  });

  test('a new session is placed by nobody that has not heard of all others yet', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    // It does not know m1, and says no more than that.
    await startRoomMachine(t, fleet, 'm2', { FLEET: 'm9@127.0.0.1:9' }, UNNOTICED);
    const m1 = await startRoomMachine(t, fleet, 'm1', {}, UNNOTICED);
    for (const place of ['m1', 'm2'])
      isToldToTryAgain(await ask(m1, idPlacedOn(place, ['m1', 'm2'])));
    assert.deepEqual(m1.app.got, []);
  });
});

describe('where two Machines know different fleets', () => {
  /** The list without these. */
  const without = (list: string, ...ids: string[]): string =>
    list
      .split(',')
      .filter((entry) => !ids.some((id) => entry.startsWith(`${id}@`)))
      .join();

  test('the one that a request was replayed to forwards it once, and it is claimed at the place', async (t) => {
    const fleet = await openFleet(t, ...IDS);
    const m1 = await startRoomMachine(t, fleet, 'm1', { FLEET: without(fleet.list, 'm3') });
    const m2 = await startRoomMachine(t, fleet, 'm2');
    const m3 = await startRoomMachine(t, fleet, 'm3');
    const edge = await startEdgeBefore(t, [m1, m2, m3]);
    const room = Array.from({ length: 100 }, (_, i) => `room${i}`).find(
      (id) => placeOf(id, IDS) === 'm3' && placeOf(id, ['m1', 'm2']) === 'm2',
    );
    assert.ok(room);
    const answer = await edge.call('m1', room);
    assert.deepEqual([answer.body, answer.way], ['m3', ['m1', 'm2']]);
    assert.deepEqual(
      m2.requests.map(({ decision, why }) => [decision, why]),
      [['forward', 'placed']],
    );
    assert.deepEqual([await m3.ownerOf(room), await m1.ownerOf(room)], ['m3', undefined]);
    await until(async () => (await m2.ownerOf(room)) === 'm3');
  });

  test('a place that knows another owner is believed: a replay is forwarded there, a forward is told to try again', async (t) => {
    const fleet = await openFleet(t, ...IDS);
    const m3 = await startRoomMachine(t, fleet, 'm3');
    const m1 = await startRoomMachine(t, fleet, 'm1', { FLEET: without(fleet.list, 'm2') });
    const m2 = await startRoomMachine(t, fleet, 'm2', { FLEET: without(fleet.list, 'm1') });
    const edge = await startEdgeBefore(t, [m1, m2, m3]);
    const room = Array.from({ length: 100 }, (_, i) => `room${i}`).find(
      (id) => placeOf(id, ['m1', 'm3']) === 'm1' && placeOf(id, ['m2', 'm3']) === 'm3',
    );
    assert.ok(room);
    assert.equal((await ask(m1, room)).body, 'm1');
    await until(async () => (await m3.ownerOf(room)) === 'm1');

    isToldToTryAgain(await ask(m2, room, chunked('a')));
    assert.deepEqual(
      m3.requests.map(({ decision, why, status }) => [decision, why, status]),
      [['refuse', 'moved', 421]],
    );
    const answer = await edge.call('m2', room);
    assert.deepEqual([answer.body, answer.way], ['m1', ['m2', 'm3']]);
    assert.deepEqual([await m2.ownerOf(room), await m3.ownerOf(room)], [undefined, 'm1']);
  });
});
