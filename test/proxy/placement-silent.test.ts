/** A frozen Machine: new sessions start on other Machines, and its claims are resolved when it recovers. */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { createMetrics } from '../../src/observability/prometheus.ts';
import { until } from '../fleet/support.ts';
import { startTurnClock } from '../support/clock.ts';
import { openFleet, type TestFleet } from '../support/fleet.ts';
import { idPlacedOn, placeOf } from '../support/ids.ts';
import { requestRoom, requestPath, startRoomMachine, type RoomMachine } from '../support/rooms.ts';

const IDS = ['m1', 'm2', 'm3'];
const UNRESPONSIVE =
  'a peer does not respond: new sessions go to other Machines, its own sessions wait';
const RECOVERED = 'a peer responds again: new sessions are placed on it';

/** Accepts connections and never responds. */
async function serveWithoutResponse(t: TestContext): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}

interface FrozenFleet {
  readonly machines: readonly RoomMachine[];
  readonly m1: RoomMachine;
  readonly m2: RoomMachine;
  readonly m3: RoomMachine;
  /** The Prometheus metrics of m1. */
  readonly metrics: () => Promise<string>;
  /** Makes m3 unresponsive for the other sidecars, and the others unreachable for m3. */
  readonly freeze: () => void;
  readonly thaw: () => void;
}

/** m3 reaches the others over lines of its own, so that `freeze` can cut both directions. */
async function startFrozenFleet(t: TestContext): Promise<FrozenFleet> {
  const fleet = await openFleet(t, ...IDS);
  const fleetOfM3 = await openFleet(t, ...IDS);
  const unresponsivePort = await serveWithoutResponse(t);
  const clock = startTurnClock(t);
  const metrics = createMetrics({ clock, version: '0' });
  const m1 = await startRoomMachine(t, fleet, 'm1', {}, { clock, metrics });
  const m2 = await startRoomMachine(t, fleet, 'm2', {}, { clock });
  const connectLine = (to: TestFleet, { id, sidecar }: RoomMachine): void =>
    to.lines.get(id)?.leadTo(sidecar.ports.peer);
  for (const machine of [m1, m2]) connectLine(fleetOfM3, machine);
  const m3 = await startRoomMachine(t, fleet, 'm3', { FLEET: fleetOfM3.list }, { clock });
  const machines = [m1, m2, m3];
  await untilUnresponsive(machines, 0);
  return {
    ...{ machines, m1, m2, m3 },
    metrics: async () => {
      const response = await fetch(`http://127.0.0.1:${m1.sidecar.ports.admin}/metrics`);
      return response.text();
    },
    freeze: () => {
      for (const id of ['m1', 'm2']) fleetOfM3.lines.get(id)?.leadTo(undefined);
      fleet.lines.get('m3')?.leadTo(unresponsivePort);
    },
    thaw: () => {
      for (const machine of [m1, m2]) connectLine(fleetOfM3, machine);
      connectLine(fleet, m3);
    },
  };
}

/** Waits until each of these Machines counts that many unresponsive peers. */
function untilUnresponsive(machines: readonly RoomMachine[], count: number): Promise<void> {
  return until(() => machines.every(({ sidecar }) => sidecar.readiness().fleet.silent === count));
}

/** How often it logged that message about m3, from that line on. */
function countOf({ log }: RoomMachine, message: string, from: number): number {
  const isOfM3 = (fields: object): boolean => 'peer' in fields && fields.peer === 'm3';
  const lines = log.lines.slice(from);
  return lines.filter((line) => line.message === message && isOfM3(line.fields)).length;
}

test('while a Machine is frozen, new sessions are placed and claimed on the others, and the log reports it once', async (t) => {
  const { m1, m2, m3, metrics, freeze, thaw } = await startFrozenFleet(t);
  const from = m1.log.lines.length;
  freeze();
  await untilUnresponsive([m1, m2], 1);
  const { ready, silent } = await m1.readiness();
  assert.deepEqual({ ready, silent }, { ready: true, silent: 1 });
  assert.match(await metrics(), /fly_affinity_peers\{state="silent"\} 1\n/);
  assert.match(await metrics(), /fly_affinity_peers\{state="answering"\} 1\n/);
  for (let i = 0; i < 10; i += 1) {
    const room = idPlacedOn('m3', IDS, `lost-${i}-`);
    const place = placeOf(room, ['m1', 'm2']);
    const [owner, other] = place === 'm1' ? [m1, m2] : [m2, m1];
    assert.equal((await requestRoom(other, room)).replay?.instance, place);
    assert.equal((await requestRoom(owner, room)).body, place);
    assert.equal(await owner.ownerOf(room), place);
  }
  assert.equal(countOf(m1, UNRESPONSIVE, from), 1);

  thaw();
  await untilUnresponsive([m1, m2], 0);
  assert.equal(countOf(m1, RECOVERED, from), 1);
  assert.equal(countOf(m1, UNRESPONSIVE, from), 1);
  const room = idPlacedOn('m3', IDS, 'again');
  assert.equal((await requestRoom(m1, room)).replay?.instance, 'm3');
  assert.equal((await requestRoom(m3, room)).body, 'm3');
});

test('a session claimed on both sides has one owner once both reach each other again, without a request', async (t) => {
  const { machines, m1, m2, m3, freeze, thaw } = await startFrozenFleet(t);
  freeze();
  await untilUnresponsive([m1, m2], 1);
  const rooms = ['one', 'two', 'three'].map((stem) => {
    for (let i = 0; ; i += 1) {
      const room = idPlacedOn('m3', IDS, `${stem}-${i}-`);
      if (placeOf(room, ['m1', 'm2']) === 'm1') return room;
    }
  });
  for (const room of rooms) {
    for (const [machine, id] of [
      [m1, 'm1'],
      [m3, 'm3'],
    ] as const) {
      assert.equal((await requestRoom(machine, room)).body, id);
      assert.equal(await machine.ownerOf(room), id);
    }
  }

  thaw();
  for (const room of rooms) {
    await until(async () => {
      const owners = await Promise.all(machines.map((machine) => machine.ownerOf(room)));
      return owners[0] !== undefined && new Set(owners).size === 1;
    });
    const owner = (await m2.ownerOf(room)) ?? '';
    for (const machine of machines) {
      const { replay, body } = await requestRoom(machine, room);
      assert.equal(replay?.instance ?? body, owner);
    }
  }
});

test('a session of a frozen Machine returns 503 with Retry-After, and no other Machine takes it', async (t) => {
  const { m1, m2, m3, freeze } = await startFrozenFleet(t);
  const room = idPlacedOn('m3', IDS);
  assert.equal((await requestRoom(m3, room)).body, 'm3');
  await until(async () => (await m1.ownerOf(room)) === 'm3' && (await m2.ownerOf(room)) === 'm3');
  freeze();
  await untilUnresponsive([m1, m2], 1);
  const failed = { 'fly-replay-failed': 'instance=m3;reason=timeout' };
  const { status, headers } = await requestRoom(m1, room, { headers: failed });
  assert.deepEqual([status, headers.get('retry-after')], [503, '1']);
  assert.equal(
    (await requestRoom(m1, room)).replay?.timeoutMs,
    1_000,
    'the edge may still reach it',
  );
  assert.deepEqual([await m1.ownerOf(room), m1.app.got.length], ['m3', 0]);
});

test('a Machine of a static FLEET is gone after it refuses connections for FLEET_GONE_AFTER_MS, and never with 0', async (t) => {
  const fleet = await openFleet(t, 'm1', 'm2', 'm3', 'm4');
  const clock = startTurnClock(t);
  const env = (goneAfterMs: string) => ({
    FLEET_GONE_AFTER_MS: goneAfterMs,
    SESSION_ID_HINTS: 'false',
  });
  const [m1, m2, m3, m4] = [
    await startRoomMachine(t, fleet, 'm1', env('1000'), { clock }),
    await startRoomMachine(t, fleet, 'm2', env('1000'), { clock }),
    await startRoomMachine(t, fleet, 'm3', env('1000'), { clock }),
    await startRoomMachine(t, fleet, 'm4', env('0'), { clock }),
  ];
  const room = idPlacedOn('m2', ['m1', 'm2', 'm3', 'm4']);
  assert.equal((await requestRoom(m2, room)).body, 'm2');
  m2.app.headers = { 'mcp-session-id': 'minted' };
  assert.equal((await requestPath(m2.url, '/', { method: 'POST' })).status, 200);
  const minted = { headers: { 'mcp-session-id': 'minted' } };
  for (const machine of [m1, m3, m4])
    await until(async () => (await machine.ownerOf('minted')) === 'm2');

  fleet.lines.get('m2')?.refuse();
  await m2.sidecar.stop();
  for (const machine of [m1, m3])
    await until(async () => (await requestPath(machine.url, '/', minted)).status === 404);
  const place = placeOf(room, ['m1', 'm3', 'm4']);
  for (const machine of [m1, m3]) {
    const { replay, body } = await requestRoom(machine, room);
    assert.equal(replay?.instance ?? body, place);
  }
  assert.equal((await requestRoom(m4, room)).replay?.instance, 'm2');
  assert.equal((await requestPath(m4.url, '/', minted)).replay?.instance, 'm2');
});
