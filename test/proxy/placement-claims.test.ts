/** Which Machine claims a new session, and when: pending claims, forged fields, and cached peer responses. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { until } from '../fleet/support.ts';
import { placeOf } from '../support/ids.ts';
import {
  queryPeer,
  ownersOf,
  requestRoom,
  chunked,
  replayedBy,
  startEdgeBefore,
  startRooms,
} from '../support/rooms.ts';

const IDS = ['m1', 'm2', 'm3'];

describe('while the app of the placement Machine has not responded to the first request', () => {
  test('a peer query returns a pending claim, and the peer stores no copy', async (t) => {
    const { machines, machine, roomOn } = await startRooms(t, IDS);
    const [m2, room] = [machine('m2'), roomOn('m2')];
    const release = m2.app.hold();
    const first = requestRoom(m2, room);
    await m2.app.untilGot(1);
    const claim = await queryPeer('m1', m2, room);
    assert.ok(typeof claim === 'object');
    assert.deepEqual([claim.isPending, claim.origin], [true, 'adopted']);
    assert.equal((await requestRoom(machine('m1'), room)).replay?.instance, 'm2');
    assert.deepEqual(await ownersOf(machines, room), [undefined, undefined, undefined]);
    release();
    assert.equal((await first).status, 200);
    const claimed = await queryPeer('m1', m2, room);
    assert.ok(typeof claimed === 'object' && claimed.isPending === undefined);
  });

  test('clients on other Machines reach it, even if those Machines would now place it elsewhere', async (t) => {
    const { machines, machine, roomOn } = await startRooms(t, IDS);
    const edge = await startEdgeBefore(t, machines);
    const [m2, room] = [machine('m2'), roomOn('m2')];
    const release = m2.app.hold();
    const first = requestRoom(m2, room);
    await m2.app.untilGot(1);
    // From now on new sessions are placed on other Machines.
    await m2.drain();
    const other = placeOf(room, ['m1', 'm3']);
    await until(async () => {
      const probe = roomOn('m2', 'probe');
      machine(other).app.status = 500;
      const { replay, body } = await requestRoom(machine(other), probe);
      return (replay?.instance ?? body) !== 'm2';
    });
    machine(other).app.status = 200;
    const later = ['m1', 'm3'].map((id) => edge.call(id, room));
    await m2.app.untilGot(3);
    release();
    const served = await Promise.all([first, ...later]);
    assert.deepEqual(
      served.map(({ body }) => body),
      ['m2', 'm2', 'm2'],
    );
    await until(async () => (await ownersOf(machines, room)).every((owner) => owner === 'm2'));
  });

  test('the session has no owner after the app rejected it', async (t) => {
    const { machines, machine, roomOn } = await startRooms(t, IDS);
    const [m2, room] = [machine('m2'), roomOn('m2')];
    const release = m2.app.hold();
    m2.app.status = 404;
    const first = requestRoom(m2, room);
    await m2.app.untilGot(1);
    release();
    assert.equal((await first).status, 404);
    assert.equal(await queryPeer('m1', m2, room), 'no');
    assert.deepEqual(await ownersOf(machines, room), [undefined, undefined, undefined]);
  });

  test('the session has no owner after its only client disconnected', async (t) => {
    const { machine, roomOn } = await startRooms(t, IDS);
    const [m2, room] = [machine('m2'), roomOn('m2')];
    const release = m2.app.hold();
    const leave = new AbortController();
    const first = requestRoom(m2, room, { signal: leave.signal });
    await m2.app.untilGot(1);
    leave.abort();
    await assert.rejects(first);
    await until(async () => (await queryPeer('m1', m2, room)) === 'no');
    release();
  });
});

test('an announcement invalidates the cached response of a peer', async (t) => {
  const { machine, roomOn } = await startRooms(t, ['m1', 'm2']);
  const [m1, m2] = [machine('m1'), machine('m2')];
  const room = roomOn('m1');
  m1.app.status = 500;
  // m2 responds "no", which m1 caches for two seconds.
  assert.equal((await requestRoom(m1, room)).status, 500);
  assert.equal(
    (await requestRoom(m2, room, { headers: { 'x-fly-affinity-placed': 'true' } })).status,
    307,
  );
  m2.app.headers = { 'x-session-id': room };
  assert.equal((await fetch(`${m2.url}/mint`, { method: 'POST' })).status, 200);
  await until(async () => (await m1.ownerOf(room)) === 'm2');
  assert.equal((await requestRoom(m1, room)).replay?.instance, 'm2');
});

describe('a forged header of a client', () => {
  test('that is internal to sidecars claims nothing, and reaches no app', async (t) => {
    const { machines, machine, roomOn } = await startRooms(t, IDS);
    const [m1, room] = [machine('m1'), roomOn('m2')];
    const forged = {
      'x-fly-affinity-placed': 'true',
      'x-fly-affinity-machine': 'm1',
      'x-fly-affinity-target': `/?room=${room}`,
    };
    assert.equal((await requestRoom(m1, room, { headers: forged })).replay?.instance, 'm2');
    // The peer that receives the forward looks up the id, with or without the placed header.
    const owned = roomOn('m2', 'owned');
    assert.equal((await requestRoom(machine('m2'), owned)).body, 'm2');
    await until(async () => (await m1.ownerOf(owned)) === 'm2');
    assert.equal((await requestRoom(m1, owned, { ...chunked('a'), headers: forged })).body, 'm2');
    const received = machine('m2').app.got.at(-1);
    assert.equal(received?.headers['x-fly-affinity-placed'], undefined);
    assert.deepEqual(await ownersOf(machines, room), [undefined, undefined, undefined]);
    assert.deepEqual(m1.app.got, []);
  });

  for (const [what, source] of [
    ['our mark', replayedBy('d8901e5b6e1234')],
    ['our mark and a peer', replayedBy('m3')],
    ['our mark and the placement Machine', replayedBy('m2')],
  ] as const) {
    test(`with ${what} in fly-replay-src uses up the replay: a new session is forwarded to its placement Machine`, async (t) => {
      const { machines, machine, roomOn } = await startRooms(t, IDS);
      const [m1, room] = [machine('m1'), roomOn('m2')];
      assert.equal((await requestRoom(m1, room, { headers: source })).body, 'm2');
      assert.equal(m1.requests[0]?.decision, 'forward');
      await until(async () => (await ownersOf(machines, room)).every((owner) => owner === 'm2'));
    });
  }

  for (const [what, forged] of [
    ['fly-replay-src that names a peer', replayedBy('m3', '')],
    ['fly-replay-src that names the owner', replayedBy('m2', '')],
    ['fly-replay-src with our mark', replayedBy('m3')],
    ['fly-replay-failed', { 'fly-replay-failed': 'instance=m2;reason=timeout' }],
    ['fly-preferred-instance-unavailable', { 'fly-preferred-instance-unavailable': 'm2' }],
    ['fly-replay-cache-status', { 'fly-replay-cache-status': 'hit' }],
  ] as const) {
    test(`does not move a known session: ${what}`, async (t) => {
      const { machines, machine, roomOn } = await startRooms(t, IDS);
      const [m1, room] = [machine('m1'), roomOn('m2')];
      assert.equal((await requestRoom(machine('m2'), room)).body, 'm2');
      await until(async () => (await ownersOf(machines, room)).every((owner) => owner === 'm2'));
      await requestRoom(m1, room, { headers: forged });
      assert.deepEqual(await ownersOf(machines, room), ['m2', 'm2', 'm2']);
      const { replay, body } = await requestRoom(m1, room);
      assert.equal(replay?.instance ?? body, 'm2');
    });
  }

  test('that imitates the replay of an app claims nothing', async (t) => {
    const { machines, machine, roomOn } = await startRooms(t, IDS);
    const [m1, room] = [machine('m1'), roomOn('m2')];
    assert.equal((await requestRoom(m1, room, { headers: replayedBy('m3', '') })).body, 'm1');
    assert.deepEqual(await ownersOf(machines, room), [undefined, undefined, undefined]);
    assert.equal((await requestRoom(m1, room)).replay?.instance, 'm2');
  });
});
