/**
 * A Machine that loses a session to another closes its streams and WebSockets, and their clients
 * reach the new owner: complete sidecars, real clients, and an edge that replays.
 */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { systemClock, type Clock } from '../../src/clock.ts';
import { until } from '../fleet/support.ts';
import { startTestEdge } from '../simulator/support.ts';
import { openFleet } from '../support/fleet.ts';
import { machineId } from '../support/ids.ts';
import {
  admin,
  HALF,
  KEY,
  type Machine,
  mint,
  movedTo,
  openEvents,
  openSocket,
  releasesIn,
  SESSION,
  startMachine,
} from './release-support.ts';

/** Both Machines own the session. `a` has the older claim. */
async function startSplit(t: TestContext) {
  const fleet = await openFleet(t, 'a', 'b');
  const later = { ...systemClock, now: () => systemClock.now() + 60_000 };
  const a = await startMachine(t, fleet, 'a');
  const b = await startMachine(t, fleet, 'b', { clock: later });
  const cut = (): void => {
    for (const line of fleet.lines.values()) line.leadTo(undefined);
  };
  const reconnect = (): void => {
    for (const { id, sidecar } of [a, b]) fleet.lines.get(id)?.leadTo(sidecar.ports.peer);
  };
  cut();
  for (const machine of [a, b]) await mint(machine);
  return { a, b, reconnect };
}

function startEdgeBefore(t: TestContext, machines: readonly Machine[]) {
  return startTestEdge(
    t,
    machines.map(({ id, sidecar }) => ({
      ...{ id: machineId(id), app: 'shop', region: 'iad', state: 'started' as const },
      ...{ port: sidecar.ports.public, wake: () => Promise.resolve() },
    })),
  );
}

describe('two Machines that both own a session', () => {
  for (const speaker of ['a', 'b'] as const) {
    test(`end with one owner when they reach each other, ${speaker} first: the clients of the loser reach the winner`, async (t) => {
      const { a, b, reconnect } = await startSplit(t);
      const edge = await startEdgeBefore(t, [a, b]);
      const preferred = { 'fly-prefer-instance-id': 'b' };
      const kept = await openEvents(a.url);
      const lost = [await openEvents(b.url), await openSocket(t, b.url)];
      assert.deepEqual([kept.by, ...lost.map(({ by }) => by)], ['a', 'b', 'b']);
      const download = await fetch(`${b.url}/download`, { headers: SESSION });

      reconnect();
      await mint(speaker === 'a' ? a : b);
      await Promise.all(lost.map(({ broken }) => broken));

      for (const response of b.downloads) response.end(HALF);
      assert.equal((await download.text()).length, 2 * HALF.length);
      const again = [
        await openEvents(edge.url, preferred),
        await openSocket(t, edge.url, preferred),
      ];
      assert.deepEqual(
        again.map(({ by }) => by),
        ['a', 'a'],
      );
      const fields = { session: KEY, owner: 'a', why: 'outranked', streams: 2 };
      const message = 'session released: another Machine owns it';
      assert.deepEqual(releasesIn(b), [{ level: 'warn', fields, message }]);
      assert.deepEqual([b.released, a.released, releasesIn(a)], [['outranked'], [], []]);
    });
  }
});

describe('a session that an operator', () => {
  async function startAlone(t: TestContext): Promise<Machine> {
    const machine = await startMachine(t, await openFleet(t, 'a', 'b'), 'a');
    await mint(machine);
    return machine;
  }

  test('deletes loses its streams and WebSockets', async (t) => {
    const machine = await startAlone(t);
    const streams = [await openEvents(machine.url), await openSocket(t, machine.url)];
    assert.equal((await admin(machine, 'DELETE', `/sessions/${KEY}`)).status, 204);
    await Promise.all(streams.map(({ broken }) => broken));
    assert.deepEqual(
      releasesIn(machine).map(({ message, fields }) => [message, fields]),
      [
        [
          'session released: it was deleted',
          { session: KEY, owner: undefined, why: 'deleted', streams: 2 },
        ],
      ],
    );
    assert.deepEqual(machine.released, ['deleted']);
    assert.deepEqual(machine.requests.slice(-2), [
      ['/events', 200, 'the session was deleted'],
      ['/', 101, 'the session was deleted'],
    ]);
  });

  test('moves to another Machine loses its WebSocket, and a dry run closes nothing', async (t) => {
    const machine = await startAlone(t);
    const { broken } = await openSocket(t, machine.url);
    const dry = await admin(machine, 'POST', '/sessions?dry-run=true', movedTo('b'));
    assert.equal(dry.status, 200);
    assert.deepEqual(machine.released, []);
    assert.equal((await admin(machine, 'POST', '/sessions', movedTo('b'))).status, 200);
    await broken;
    assert.deepEqual(machine.released, ['moved']);
  });

  test('deletes on a Machine that only has a copy keeps its streams', async (t) => {
    const fleet = await openFleet(t, 'a', 'b');
    const [a, b] = [await startMachine(t, fleet, 'a'), await startMachine(t, fleet, 'b')];
    await mint(a);
    await until(async () => (await admin(b, 'GET', `/sessions/${KEY}`)).status === 200);
    assert.equal((await admin(b, 'DELETE', `/sessions/${KEY}`)).status, 204);
    assert.deepEqual([a.released, b.released], [[], []]);
  });
});

test('a sidecar that stops while it closes streams leaves no timer', async (t) => {
  const fleet = await openFleet(t, 'a', 'b');
  const pending = new Set<object>();
  const after: Clock['after'] = (ms, fn) => {
    const token = {};
    const done = (): void => void pending.delete(token);
    const cancel = systemClock.after(ms, () => {
      done();
      fn();
    });
    pending.add(token);
    return () => {
      done();
      cancel();
    };
  };
  const clock = { ...systemClock, after };
  const machine = await startMachine(t, fleet, 'a', { clock, random: () => 0.999 });
  await mint(machine);
  const { broken } = await openSocket(t, machine.url);
  assert.equal((await admin(machine, 'DELETE', `/sessions/${KEY}`)).status, 204);
  assert.ok(pending.size > 0);
  await machine.sidecar.stop();
  await broken;
  assert.equal(pending.size, 0);
});
