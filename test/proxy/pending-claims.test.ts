/** A request that waits for its app may claim its session later. Until then it must not affect other clients. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { parseReplay } from '../../src/fly.ts';
import { REPLAY_MARK } from '../../src/routing/replay-state.ts';
import { rendezvousWinner } from '../../src/fleet/rendezvous.ts';
import { until } from '../e2e/support/until.ts';
import { openFleet, type TestMachine } from '../support/fleet.ts';
import { keyOf, machineId } from '../support/ids.ts';
import { serveApp } from '../support/sidecar.ts';

const IDS = ['m1', 'm2', 'm3'];
const machines = IDS.map(machineId);

/** A room that is placed on `m3`. */
const ROOM =
  Array.from({ length: 100 }, (_, index) => `room-${index}`).find(
    (id) => rendezvousWinner(keyOf(id), machines) === 'm3',
  ) ?? assert.fail();

test('a client that keeps a room pending on a Machine of its choice does not block other clients', async (t) => {
  const { fleet, slow } = await startSlowFleet(t);
  const [m1, m2] = [fleet.get('m1') ?? assert.fail(), fleet.get('m2') ?? assert.fail()];
  await untilHeardFromAll(m2);
  const pending = fetch(`${m2.url}/slow`, { headers: { 'x-session-id': `${ROOM}~m2` } });
  await slow.arrived;
  const bodies = [undefined, 'a body of unknown length'];
  for (const [start, body] of [m1, m2].flatMap((one) => bodies.map((b) => [one, b] as const))) {
    const outcome = await follow(fleet, start, ROOM, body);
    assert.deepEqual([start.id, outcome.status], [start.id, 200]);
  }
  slow.respond();
  assert.equal((await pending).status, 200);
});

/** A hint may open a session only after all peers have responded. */
async function untilHeardFromAll(machine: TestMachine): Promise<void> {
  let tries = 0;
  await until(async () => {
    tries += 1;
    const headers = { 'x-session-id': `warm-${tries}~${machine.id}` };
    await (await fetch(`${machine.url}/`, { headers })).text();
    return (await machine.rowCount()) > 0 ? [] : ['a session of its own'];
  });
}

async function follow(
  fleet: ReadonlyMap<string, TestMachine>,
  first: TestMachine,
  id: string,
  body: string | undefined,
): Promise<{ status: number; app: string }> {
  let machine = first;
  let replayed = {};
  for (let hops = 0; hops < 3; hops += 1) {
    const response = await fetch(`${machine.url}/`, {
      headers: { 'x-session-id': id, ...replayed },
      redirect: 'manual',
      ...(body !== undefined && {
        method: 'POST',
        body: new Blob([body]).stream(),
        duplex: 'half',
      }),
    });
    const app = await response.text();
    const replay = response.headers.get('fly-replay');
    if (replay === null) return { status: response.status, app };
    replayed = { 'fly-replay-src': `instance=${machine.id};region=iad;t=1;state=${REPLAY_MARK}` };
    machine = fleet.get(parseReplay(replay)?.instance ?? '') ?? assert.fail(replay);
  }
  return assert.fail('a loop');
}

interface SlowFleet {
  readonly fleet: ReadonlyMap<string, TestMachine>;
  readonly slow: { readonly arrived: Promise<void>; respond(): void };
}

async function startSlowFleet(t: TestContext): Promise<SlowFleet> {
  const fleet = await openFleet(t, ...IDS);
  const arrival = Promise.withResolvers<undefined>();
  const respond = Promise.withResolvers<undefined>();
  const started = new Map<string, TestMachine>();
  const start = async (id: string): Promise<void> => {
    const port = await serveApp(t, (request, response) => {
      request.resume();
      if (request.url !== '/slow') {
        response.end(id);
        return;
      }
      arrival.resolve(undefined);
      void respond.promise.then(() => response.end(id));
    });
    started.set(id, await fleet.start(id, port, { SESSION_PROTOCOLS: 'rpc' }));
  };
  // Each Machine waits for the peers that it lists.
  await Promise.all(IDS.map(start));
  return {
    fleet: started,
    slow: { arrived: arrival.promise, respond: () => respond.resolve(undefined) },
  };
}
