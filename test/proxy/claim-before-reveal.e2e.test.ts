/** Two Machines claim one session in a shared store: the loser sends its client to the winner. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { until } from '../fleet/support.ts';
import { skipUnlessFound } from '../support/needed.ts';
import { neededForPostgres, startPostgresServer } from '../support/postgres-server.ts';
import { openClient } from '../support/raw.ts';
import { neededForRedis, startRedisServer } from '../support/redis-server.ts';
import {
  requestRoom,
  replayedBy,
  startEdgeBefore,
  startRooms,
  type RoomResponse,
  type RoomFleet,
  type RoomMachine,
} from '../support/rooms.ts';

const IDS = ['m1', 'm2'] as const;

interface Split extends RoomFleet {
  /** Sends a request to the app of each Machine. m2 responds first, then m1. */
  readonly race: <Response = RoomResponse>(
    call: (id: 'm1' | 'm2') => Promise<Response>,
  ) => Promise<{ m1: Response; m2: Response }>;
}

/** Each Machine considers itself the placement Machine of every room. */
async function startSplit(t: TestContext, startStore: StartStore): Promise<Split> {
  const url = await startStore(t);
  const directory = await mkdtemp(join(tmpdir(), 'fly-affinity-claims-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const env = (id: string) => ({
    SESSION_STORE_URL: url,
    SESSION_STORE_PATH: join(directory, `${id}.db`),
  });
  const rooms = await startRooms(t, IDS, env);
  for (const id of IDS) rooms.cut(id);
  await until(async () => {
    const allReadiness = await Promise.all(rooms.machines.map(({ readiness }) => readiness()));
    return allReadiness.every((readiness) => readiness.silent === 1);
  });
  const race: Split['race'] = async (call) => {
    const [one, two] = [rooms.machine('m1'), rooms.machine('m2')];
    const [releaseOne, releaseTwo] = [one.app.hold(), two.app.hold()];
    const [m1, m2] = [call('m1'), call('m2')];
    await Promise.all([one.app.untilGot(1), two.app.untilGot(1)]);
    for (const { id, sidecar } of rooms.machines)
      rooms.fleet.lines.get(id)?.leadTo(sidecar.ports.peer);
    releaseTwo();
    const winner = await m2;
    releaseOne();
    return { m1: await m1, m2: winner };
  };
  return { ...rooms, race };
}

/** Returns the URL of a shared database. */
type StartStore = (t: TestContext) => Promise<string>;

/** The tests wait for timeouts most of the time. */
const CONCURRENT = { concurrency: 3 };

describe('with Redis', CONCURRENT, () => {
  skipUnlessFound(neededForRedis, (program) => {
    testClaims(async (t) => (await startRedisServer(t, { program })).url);
  });
});

describe('with Postgres', CONCURRENT, () => {
  skipUnlessFound(neededForPostgres, (programs) => {
    testClaims(async (t) => (await startPostgresServer(t, { programs })).url());
  });
});

function testClaims(startStore: StartStore): void {
  test('a safe request on its first pass is replayed to the winner, and the client gets its response', async (t) => {
    const { machines, machine, roomOn, race } = await startSplit(t, startStore);
    const edge = await startEdgeBefore(t, machines);
    const room = roomOn('m1');
    const { m1, m2 } = await race((id) => edge.call(id, room));
    assert.deepEqual([m2.body, m1.body], ['m2', 'm2']);
    const [first] = machine('m1').requests;
    assert.deepEqual([first?.decision, first?.why], ['replay', 'claim-lost']);
  });

  test('a safe request that was replayed before is forwarded to the winner', async (t) => {
    const { machine, roomOn, race } = await startSplit(t, startStore);
    const headers = replayedBy('m9');
    const { m1, m2 } = await race((id) => requestRoom(machine(id), roomOn('m1'), { headers }));
    assert.deepEqual([m2.body, m1.body], ['m2', 'm2']);
    const [first] = machine('m1').requests;
    assert.deepEqual([first?.decision, first?.why], ['forward', 'claim-lost']);
  });

  test("the response to a POST passes through, because a POST can't be repeated, and the next request goes to the winner", async (t) => {
    const { machine, roomOn, race } = await startSplit(t, startStore);
    const init = { method: 'POST', body: 'an edit' };
    const { m1, m2 } = await race((id) => requestRoom(machine(id), roomOn('m1'), init));
    assert.deepEqual([m2.body, m1.body], ['m2', 'm1']);
    assert.equal((await requestRoom(machine('m1'), roomOn('m1'))).replay?.instance, 'm2');
    assert.equal((await requestRoom(machine('m2'), roomOn('m1'))).body, 'm2');
  });

  for (const [claim, headers, expected] of [
    [
      'on its first pass is replayed to the winner',
      {},
      /^HTTP\/1\.1 307 [^]*fly-replay: instance=m2;/,
    ],
    ['that was replayed before is forwarded', replayedBy('m9'), /^HTTP\/1\.1 101 [^]*\r\n\r\nm2$/],
  ] as const) {
    test(`an upgrade ${claim}, and the loser sends no 101`, async (t) => {
      const { machine, roomOn, race } = await startSplit(t, startStore);
      const room = roomOn('m1');
      const { m1, m2 } = await race((id) => upgrade(t, machine(id), room, headers));
      assert.match(m2, /^HTTP\/1\.1 101 [^]*\r\n\r\nm2$/);
      assert.match(m1, expected);
      // The access log line is written when the tunnel closes.
      await until(() => machine('m1').requests.length === 1);
      assert.equal(machine('m1').requests[0]?.why, 'claim-lost');
    });
  }
}

/** Returns everything received until the connection closes. */
async function upgrade(
  t: TestContext,
  { sidecar }: Pick<RoomMachine, 'sidecar'>,
  room: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<string> {
  const client = await openClient(t, sidecar.ports.public);
  const fields = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  client.send(
    `GET /?room=${room} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${fields.join('')}\r\n`,
  );
  const response = await client.until(
    (text) => text.endsWith('\r\n\r\nm2') || text.startsWith('HTTP/1.1 307'),
  );
  client.socket.destroy();
  return response;
}
