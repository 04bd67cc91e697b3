/**
 * Each sentence of the documentation on ids that clients mint is a test: real sidecars and apps behind the
 * simulated edge. `test/readme.test.ts` checks that every sentence has a test.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { systemClock, type Clock } from '../../src/clock.ts';
import type { Environment } from '../../src/config/config.ts';
import { until } from '../fleet/support.ts';
import { createPlace } from '../store/place.ts';
import { startTurnClock } from '../support/clock.ts';
import { idPlacedOn, keyOf } from '../support/ids.ts';
import { openRooms, type Rooms, type Seen } from './rooms-behind-edge.ts';

const IDS = ['m1', 'm2', 'm3'] as const;
const LONG = { timeout: 60_000 };

async function startAll(
  t: TestContext,
  ids: readonly string[] = IDS,
  env: (id: string) => Environment = () => ({}),
  clock: Clock = startTurnClock(t),
): Promise<Rooms> {
  const rooms = await openRooms(t, ...ids);
  for (const id of ids) await rooms.start(id, env(id), { clock });
  await rooms.openEdge();
  return rooms;
}

const numbered = (stem: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${stem}${i}`);

/** Concurrent clients of the room, one at each of these Machines. */
function enter(rooms: Rooms, room: string, firsts: readonly string[] = IDS): Promise<Seen[]> {
  return Promise.all(firsts.map((first) => rooms.call(first, `/rooms/${room}`)));
}

/** Asserts that all were served by the same Machine, and returns it. */
function meetingPlace(seen: readonly Seen[]): string {
  for (const { status, by } of seen) assert.deepEqual([status, by], [200, seen[0]?.by]);
  return seen[0]?.by ?? assert.fail('no client');
}

async function enterAll(
  rooms: Rooms,
  names: readonly string[],
  firsts: readonly string[] = IDS,
): Promise<Map<string, string>> {
  const places = new Map<string, string>();
  for (const room of names) places.set(room, meetingPlace(await enter(rooms, room, firsts)));
  return places;
}

/** Waits until each of these Machines reports one unresponsive peer. */
function untilOneIsUnresponsive(rooms: Rooms, to: readonly string[]): Promise<void> {
  return until(() =>
    to.every((id) => rooms.machine(id).sidecar.sidecar.readiness().fleet.silent === 1),
  );
}

/** Waits until the other Machines place no new session on this Machine. Each try uses new rooms. */
async function untilNoneIsPlacedOn(rooms: Rooms, machine: string, firsts: readonly string[]) {
  let count = 0;
  await until(async () => {
    const stem = `try${(count += 1)}-`;
    const room = idPlacedOn(machine, IDS, stem);
    const seen = await Promise.all(
      firsts.map((first) => rooms.call(first, `/rooms/${idPlacedOn(machine, IDS, stem + first)}`)),
    );
    const last = await rooms.call(firsts[0] ?? '', `/rooms/${room}`);
    return [...seen, last].every(({ status, by }) => status === 200 && by !== machine);
  });
}

test('Clients that bring the same new id to different Machines in the same moment meet on one Machine.', async (t) => {
  const rooms = await startAll(t);
  const places = await enterAll(rooms, numbered('room', 12));
  assert.ok(new Set(places.values()).size > 1, 'rooms are spread over the Machines');
});

test(
  'A new session goes to a Machine that responds and takes new sessions, if there is one.',
  LONG,
  async (t) => {
    const rooms = await startAll(t);
    await rooms.machine('m2').admin('POST', '/drain');
    rooms.machine('m3').killApp();
    await rooms.call('m3', '/no-session');
    await untilNoneIsPlacedOn(rooms, 'm2', ['m1', 'm3']);
    await untilNoneIsPlacedOn(rooms, 'm3', ['m1', 'm2']);
    const places = await enterAll(rooms, numbered('room', 12));
    assert.deepEqual(new Set(places.values()), new Set(['m1']));
  },
);

test('An id that apps mint too is placed in the region of its first request, an id that only clients mint in the whole fleet.', async (t) => {
  const ids = ['fra1', 'fra2', 'iad1', 'iad2'];
  const rooms = await startAll(t, ids, (id) => ({ FLY_REGION: id.slice(0, 3) }));
  const near = new Set<string>();
  for (const id of numbered('session', 6)) {
    const { by } = await rooms.call('fra1', '/', { headers: { 'x-session-id': id } });
    near.add(by);
  }
  assert.deepEqual(near, new Set(['fra1', 'fra2']));
  const places = await enterAll(rooms, numbered('room', 12), ids);
  assert.deepEqual(new Set(places.values()), new Set(ids));
});

test('A session is bound only after its app has accepted the id.', async (t) => {
  const rooms = await startAll(t);
  const rowCounts = (): Promise<number[]> =>
    Promise.all(IDS.map((id) => rooms.machine(id).sidecar.rowCount()));
  const rejected = await rooms.call('m1', '/rooms/a', { headers: { 'x-banned': '' } });
  assert.equal(rejected.status, 403);
  assert.deepEqual(await rowCounts(), [0, 0, 0]);
  const { by } = await rooms.call('m1', '/rooms/a');
  assert.equal(await rooms.machine(by).sidecar.rowCount(), 1);
});

test('The response that accepts the id reaches the client after the owner is stored.', async (t) => {
  const place = await createPlace(t);
  const onDisk = (id: string): Environment => ({
    SESSION_STORE_URL: '',
    SESSION_STORE_PATH: place.path(id),
  });
  const rooms = await startAll(t, IDS, onDisk, systemClock);
  const files = new Map(IDS.map((id) => [id, new Database(place.path(id), { readonly: true })]));
  place.closeAfterwards({ close: () => files.forEach((file) => file.close()) });
  for (const room of numbered('room', 12)) {
    const { by } = await rooms.call('m1', `/rooms/${room}`);
    const file = files.get(by as 'm1') ?? assert.fail(`no file of ${by}`);
    const select = file.prepare(
      `SELECT id FROM sessions JOIN machines ON number = machine WHERE key = unhex(?)`,
    );
    assert.deepEqual(select.all(keyOf(room)), [{ id: by }]);
  }
});

test('If the Machine on which a new session is placed refuses connections, the session begins on the Machine that has the request.', async (t) => {
  const clock = startTurnClock(t);
  // Timers that repeat never fire: heartbeats go out at the start alone.
  const withoutTicks: Clock = { ...clock, every: () => () => undefined };
  const rooms = await openRooms(t, ...IDS);
  await rooms.start('m2', {}, { clock });
  await rooms.start('m3', {}, { clock });
  await rooms.start('m1', {}, { clock: withoutTicks });
  await rooms.openEdge();
  const room = idPlacedOn('m2', IDS);
  await rooms.machine('m2').stop();
  rooms.fleet.lines.get('m2')?.refuse();
  assert.equal(meetingPlace(await enter(rooms, room, ['m1'])), 'm1');
  assert.equal(meetingPlace(await enter(rooms, room, ['m3', 'm1'])), 'm1');
});

test(
  'An unresponsive Machine stops no new session: the Machines that respond share them.',
  LONG,
  async (t) => {
    const rooms = await startAll(t);
    await rooms.machine('m3').stop();
    await untilOneIsUnresponsive(rooms, ['m1', 'm2']);
    const names = numbered('of-the-silent', 10).map((stem) => idPlacedOn('m3', IDS, stem));
    const places = await enterAll(rooms, names, ['m1', 'm2']);
    assert.deepEqual(new Set(places.values()), new Set(['m1', 'm2']));
    for (const [room, by] of places) {
      const found = await rooms.machine(by).admin('GET', `/sessions/${keyOf(room)}`);
      assert.equal(((await found.json()) as { owner: string }).owner, by, 'it is bound');
    }
  },
);

test(
  'A session that has an owner waits for it while it is unresponsive: clients get 503 with Retry-After.',
  LONG,
  async (t) => {
    const rooms = await startAll(t);
    const room = idPlacedOn('m3', IDS);
    assert.equal(meetingPlace(await enter(rooms, room)), 'm3');
    await rooms.machine('m3').stop();
    await untilOneIsUnresponsive(rooms, ['m1', 'm2']);
    for (const { status, retryAfter } of await enter(rooms, room, ['m1', 'm2', 'm1', 'm2'])) {
      assert.deepEqual([status, retryAfter], [503, '1']);
    }
    await rooms.machine('m3').startAgain();
    assert.equal(meetingPlace(await enter(rooms, room)), 'm3');
  },
);

test(
  'If two Machines have begun the same session, the one that began it earlier by whole ten seconds keeps it, and the other closes its streams.',
  LONG,
  async (t) => {
    const rooms = await openRooms(t, 'm1', 'm2');
    const clock = startTurnClock(t);
    await rooms.start('m1', {}, { clock });
    const later = { ...clock, now: () => clock.now() + 60_000 };
    await rooms.start('m2', {}, { clock: later });
    await rooms.openEdge();
    for (const line of rooms.fleet.lines.values()) line.leadTo(undefined);
    await untilOneIsUnresponsive(rooms, ['m1', 'm2']);
    const [kept, lost] = [
      await rooms.stream('m1', '/rooms/a'),
      await rooms.stream('m2', '/rooms/a'),
    ];
    assert.deepEqual([kept.by, lost.by], ['m1', 'm2']);
    for (const id of ['m1', 'm2']) {
      rooms.fleet.lines.get(id)?.leadTo(rooms.machine(id).sidecar.sidecar.ports.peer);
    }
    await lost.broken;
    assert.equal(meetingPlace(await enter(rooms, 'a', ['m2', 'm1'])), 'm1');
    const released = rooms
      .machine('m1')
      .log.lines.filter(({ message }) => message.startsWith('session released'));
    assert.deepEqual(released, []);
  },
);

test('Machines that join, leave or drain move no session of another Machine.', LONG, async (t) => {
  const clock = startTurnClock(t);
  const rooms = await openRooms(t, ...IDS);
  await rooms.start('m1', {}, { clock });
  await rooms.start('m2', {}, { clock });
  await rooms.openEdge();
  await untilOneIsUnresponsive(rooms, ['m1', 'm2']);
  const names = IDS.flatMap((id) => numbered('room', 4).map((stem) => idPlacedOn(id, IDS, stem)));
  const before = await enterAll(rooms, names, ['m1', 'm2']);
  assert.deepEqual(new Set(before.values()), new Set(['m1', 'm2']));

  await rooms.start('m3', {}, { clock });
  assert.deepEqual(await enterAll(rooms, names), before, 'one has joined');
  await rooms.machine('m2').admin('POST', '/drain');
  await untilNoneIsPlacedOn(rooms, 'm2', ['m1', 'm3']);
  assert.deepEqual(await enterAll(rooms, names), before, 'one drains');
  await rooms.machine('m3').stop();
  await untilOneIsUnresponsive(rooms, ['m1', 'm2']);
  assert.deepEqual(await enterAll(rooms, names, ['m1', 'm2']), before, 'one has left');
});

test(
  'After a rolling deploy that keeps the volumes, the clients of a session meet on one Machine again.',
  LONG,
  async (t) => {
    const place = await createPlace(t);
    const onDisk = (id: string): Environment => ({
      SESSION_STORE_URL: '',
      SESSION_STORE_PATH: place.path(id),
    });
    const rooms = await startAll(t, IDS, onDisk, systemClock);
    const names = numbered('room', 10);
    await enterAll(rooms, names);
    for (const id of IDS) {
      await rooms.machine(id).stop();
      await rooms.machine(id).startAgain();
    }
    await enterAll(rooms, names);
  },
);

test(
  'Once the owner is gone for good, the clients of its session meet on one other Machine.',
  LONG,
  async (t) => {
    const env = { FLEET_GONE_AFTER_MS: '1000' };
    const rooms = await startAll(t, IDS, () => env);
    const names = numbered('room', 10).map((stem) => idPlacedOn('m3', IDS, stem));
    const before = await enterAll(rooms, names);
    assert.deepEqual(new Set(before.values()), new Set(['m3']));
    await rooms.machine('m3').stop();
    rooms.fleet.lines.get('m3')?.refuse();
    for (const first of ['m1', 'm2']) {
      const probe = names.pop() ?? assert.fail('no room is left');
      await until(async () => (await rooms.call(first, `/rooms/${probe}`)).status === 200);
    }
    const places = await enterAll(rooms, names, ['m1', 'm2']);
    assert.deepEqual(new Set(places.values()), new Set(['m1', 'm2']));
  },
);
