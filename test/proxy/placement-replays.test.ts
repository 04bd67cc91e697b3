/** How replays of sidecars, apps and the edge's cache affect new and known sessions. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { until } from '../fleet/support.ts';
import { openFleet } from '../support/fleet.ts';
import { idPlacedOn } from '../support/ids.ts';
import {
  requestRoom,
  requestPath,
  replayedBy,
  startEdgeBefore,
  startRoomMachine,
  startRooms,
  type RoomFleet,
} from '../support/rooms.ts';
import { serveApp } from '../support/sidecar.ts';

const IDS = ['m1', 'm2', 'm3'];
const CACHEABLE = { REPLAY_CACHEABLE: 'true' };
const UNMARKED = '';

/** Starts Machines that all know a room of m2. */
async function startWithRoom(t: TestContext, env = {}): Promise<RoomFleet & { room: string }> {
  const rooms = await startRooms(t, IDS, { SESSION_ID_HINTS: 'false', ...env });
  const room = rooms.roomOn('m2', 'known');
  assert.equal((await requestRoom(rooms.machine('m2'), room)).body, 'm2');
  for (const machine of rooms.machines)
    await until(async () => (await machine.ownerOf(room)) === 'm2');
  return { ...rooms, room };
}

describe('a replay to the placement Machine of a new session', () => {
  test('always has fields that prevent caching, unlike a replay to a known owner', async (t) => {
    const { machine, room, roomOn } = await startWithRoom(t, CACHEABLE);
    const [m1, fresh] = [machine('m1'), roomOn('m2')];
    const placed = await requestRoom(m1, fresh);
    assert.deepEqual(
      [placed.replay?.state, placed.replay?.fallback],
      ['fly-affinity', 'prefer_self'],
    );
    const known = await requestRoom(m1, room);
    assert.equal(known.headers.get('fly-replay'), 'instance=m2');
  });

  test('invalidates the cache entry that routed the request here', async (t) => {
    const { machine, roomOn } = await startRooms(t, IDS);
    const headers = { 'fly-replay-cache-status': 'hit' };
    const { replay, headers: sent } = await requestRoom(machine('m1'), roomOn('m2'), { headers });
    assert.deepEqual([replay?.instance, sent.get('fly-replay-cache')], ['m2', 'invalidate']);
    const miss = { 'fly-replay-cache-status': 'miss' };
    const { headers: other } = await requestRoom(machine('m1'), roomOn('m2'), { headers: miss });
    assert.equal(other.get('fly-replay-cache'), null);
  });

  test('that failed is followed by one forward, and the placement Machine claims the session', async (t) => {
    const { machines, machine, roomOn } = await startRooms(t, IDS);
    // The private network still reaches m2.
    const edge = await startEdgeBefore(
      t,
      machines.filter(({ id }) => id !== 'm2'),
    );
    const { body, way } = await edge.call('m1', roomOn('m2'));
    assert.deepEqual([body, way], ['m2', ['m1', 'm1']]);
    assert.equal(await machine('m2').ownerOf(roomOn('m2')), 'm2');
    const [, second] = machine('m1').requests;
    assert.deepEqual([second?.decision, second?.why], ['forward', 'placed']);
  });
});

describe('a replay with our mark', () => {
  test('uses up the one replay: a known session is forwarded', async (t) => {
    const { machine, room } = await startWithRoom(t);
    assert.equal(
      (await requestRoom(machine('m1'), room, { headers: replayedBy('m3') })).body,
      'm2',
    );
    assert.equal(machine('m1').requests[0]?.decision, 'forward');
  });
});

describe('an unmarked replay of a peer of this version counts as a replay of its app', () => {
  test('a known session is served by the target, and keeps its owner', async (t) => {
    const { machine, machines, room } = await startWithRoom(t);
    const headers = replayedBy('m2', UNMARKED);
    assert.equal((await requestRoom(machine('m1'), room, { headers })).body, 'm1');
    assert.equal(machine('m1').requests[0]?.why, 'app-replay');
    for (const { ownerOf } of machines) assert.equal(await ownerOf(room), 'm2');
  });

  test('a state of the app is not our mark', async (t) => {
    const { machine, room } = await startWithRoom(t);
    const headers = replayedBy('m2', 'captured_write');
    assert.equal((await requestRoom(machine('m1'), room, { headers })).body, 'm1');
  });

  test('a draining Machine serves it too', async (t) => {
    const { machine, roomOn } = await startRooms(t, IDS);
    await machine('m1').drain();
    const headers = replayedBy('m2', UNMARKED);
    assert.equal((await requestRoom(machine('m1'), roomOn('m2'), { headers })).body, 'm1');
  });

  test('an id that its response reveals is bound here, and no affinity cookie is set', async (t) => {
    const { machine, room } = await startWithRoom(t, { AFFINITY_COOKIE: 'aff' });
    const { app, url, ownerOf } = machine('m1');
    app.headers = { 'mcp-session-id': 'minted' };
    const headers = replayedBy('m2', UNMARKED);
    await requestRoom(machine('m1'), room, { method: 'POST', headers });
    assert.equal(await ownerOf('minted'), 'm1');
    app.headers = {};
    assert.equal((await requestPath(url, '/', { headers })).headers.get('set-cookie'), null);
    assert.match((await requestPath(url, '/')).headers.get('set-cookie') ?? '', /^aff=m1/);
  });

  test('an id of the request that the app echoes is not bound here', async (t) => {
    const { machine, machines } = await startRooms(t, IDS, { SESSION_ID_HINTS: 'false' });
    const { app, url } = machine('m1');
    app.headers = { 'x-session-id': 'echoed' };
    const headers = { 'x-session-id': 'echoed', ...replayedBy('m2', UNMARKED) };
    assert.equal((await requestPath(url, '/', { headers })).body, 'm1');
    for (const { ownerOf } of machines) assert.equal(await ownerOf('echoed'), undefined);
  });
});

describe('an unmarked replay', () => {
  test('of a Machine outside the fleet is a first pass', async (t) => {
    const { machine, room, roomOn } = await startWithRoom(t);
    const headers = replayedBy('d8901e5b6e1234', UNMARKED);
    for (const id of [room, roomOn('m2', 'new')])
      assert.equal((await requestRoom(machine('m1'), id, { headers })).replay?.instance, 'm2');
  });

  test('of a peer that reported no version counts as ours', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const old = await serveApp(t, (req, res) => {
      req.resume().on('end', () => {
        if (req.url === '/v1/forward') res.end('m2');
        else res.writeHead(404).end();
      });
    });
    fleet.lines.get('m2')?.leadTo(old);
    const m1 = await startRoomMachine(t, fleet, 'm1');
    const room = idPlacedOn('m2', ['m1', 'm2']);
    const headers = replayedBy('m2', UNMARKED);
    assert.equal((await requestRoom(m1, room, { headers })).body, 'm2');
    assert.equal(m1.requests[0]?.decision, 'forward', 'the replay is used up');
  });

  test("with REPLAY_CACHEABLE counts as the app's from the owner, and as ours from any other peer", async (t) => {
    const { machine, room } = await startWithRoom(t, CACHEABLE);
    const m1 = machine('m1');
    assert.equal((await requestRoom(m1, room, { headers: replayedBy('m2', UNMARKED) })).body, 'm1');
    assert.equal((await requestRoom(m1, room, { headers: replayedBy('m3', UNMARKED) })).body, 'm2');
    assert.deepEqual(
      m1.requests.map(({ decision, why }) => [decision, why]),
      [
        ['local', 'app-replay'],
        ['forward', 'moved-since-replay'],
      ],
    );
  });
});
