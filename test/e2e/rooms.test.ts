/**
 * Clients that open a room at the same moment, as after each deploy: they must all connect to one
 * Machine, whichever Machines the edge selects. `ROOMS=all` runs all combinations.
 */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { SimulatedMachine } from '../../src/simulator/machine.ts';
import { skipUnlessFound } from '../support/needed.ts';
import { neededForPostgres, startPostgresServer } from '../support/postgres-server.ts';
import { neededForRedis, startRedisServer } from '../support/redis-server.ts';
import type { ServerName } from './rooms/guests.ts';
import { combinationsFor, type Combination, type StoreName } from './rooms/matrix.ts';
import { startParty, type Party } from './rooms/party.ts';
import { createSocketLocations, type SocketLocations } from './rooms/socket-locations.ts';
import { startFleet, type Fleet } from './support/fleet.ts';
import { shortened } from './support/shortened.ts';
import { until } from './support/until.ts';

const ROOMS = 20;
const CLIENTS = 4;
/** With clients that abort a connection without a response after three seconds. */
const MEET_WITHIN_MS = 30_000;
/** A test that hangs ends, and stops its Machines. */
const LONG = { timeout: 400_000 };

const PROTOCOLS: Readonly<Record<ServerName, string>> = {
  'y-websocket': 'path:^/([^/]+)$',
  hocuspocus: 'query:doc',
  chat: 'rpc',
};

/** The settings of the sidecars that name the store. */
type StartStore = (t: TestContext) => Promise<Record<string, string>>;

const combinations = combinationsFor(process.env.ROOMS);

describe('all clients of a room are on one Machine', () => {
  testWith('sqlite', () => Promise.resolve({}));
  skipUnlessFound(neededForRedis, (program) => {
    testWith('redis', async (t) => {
      const { url } = await startRedisServer(t, { program });
      return { SESSION_STORE_URL: url };
    });
  });
  skipUnlessFound(neededForPostgres, (programs) => {
    testWith('postgres', async (t) => {
      const server = await startPostgresServer(t, { programs });
      return { SESSION_STORE_URL: server.url() };
    });
  });
});

function testWith(store: StoreName, start: StartStore): void {
  for (const combination of combinations.filter((each) => each.store === store)) {
    const { server, spread, layout } = combination;
    test(`${server}, ${store}, the edge's choice ${spread}, ${layout}:`, LONG, async (t) => {
      await testRooms(t, combination, await start(t));
    });
  }
}

interface Scene {
  readonly fleet: Fleet;
  readonly party: Party;
  readonly locations: SocketLocations;
  /** All rooms that have been opened. */
  readonly rooms: string[];
}

async function testRooms(
  t: TestContext,
  combination: Combination,
  storeEnv: Record<string, string>,
): Promise<void> {
  const scene = await startScene(t, combination, storeEnv);
  const { fleet, locations, rooms } = scene;
  const [first, second] = fleet.machines;
  assert.ok(first && second);
  await t.test('when they open it at the same moment', LONG, async () => {
    await openRooms(scene, 'new');
  });
  await t.test('after all Machines were replaced one by one', LONG, async () => {
    await fleet.simulation.deploy('rolling');
    await meet(scene, rooms, 'an edit after the deploy');
  });
  await t.test('while a sidecar is killed', LONG, async () => {
    await first.stopSidecar('SIGKILL');
    await openWithout(scene, first, 'killed');
  });
  await t.test(
    'for rooms it owned, and rooms opened without it, when it is back',
    LONG,
    async () => {
      await first.startSidecar();
      await meet(scene, rooms, 'an edit after the kill');
    },
  );
  await t.test('while a sidecar does not respond', LONG, async () => {
    fleet.signalSidecar(second, 'SIGSTOP');
    try {
      await openWithout(scene, second, 'silent');
    } finally {
      fleet.signalSidecar(second, 'SIGCONT');
    }
  });
  await t.test('for rooms it owned, and rooms opened without it, when it responds', LONG, () =>
    meet(scene, rooms, 'an edit after the freeze'),
  );
  t.diagnostic(`${locations.joinCount()} sockets for ${rooms.length * CLIENTS} clients`);
  await t.test('no call takes more than one replay or one forward', async () => {
    await scene.party.close();
    await fleet.simulation.close();
    assert.deepEqual(fleet.ledger.faults('some-lost'), []);
  });
}

async function startScene(
  t: TestContext,
  { server, spread, layout }: Combination,
  storeEnv: Record<string, string>,
): Promise<Scene> {
  const locations = createSocketLocations();
  const app = fileURLToPath(new URL(`rooms/apps/${server}.ts`, import.meta.url));
  const fleet = await startFleet(t, {
    hints: true,
    ...(layout === 'one region' && { regions: ['iad', 'iad', 'iad'] }),
    appCommand: [process.execPath, app],
    spread,
    env: {
      ...storeEnv,
      SESSION_PROTOCOLS: PROTOCOLS[server],
      ...(layout === 'three regions, PLACEMENT=fleet' && { PLACEMENT: 'fleet' }),
    },
    onLine: (_machine, source, line) => {
      if (source === 'app') locations.noteLine(line);
    },
  });
  const party = startParty({ server, url: fleet.target.url });
  t.after(() => party.close());
  return { fleet, party, locations, rooms: [] };
}

/** Some immediately, and some more when the others have detected the unresponsive Machine. */
async function openWithout(scene: Scene, machine: SimulatedMachine, name: string): Promise<void> {
  const atOnce = await openRooms(scene, `${name}-at-once`);
  const later = await openRooms(scene, `${name}-later`);
  const { locations } = scene;
  assert.deepEqual(locations.roomsOn(machine.id, [...atOnce, ...later]), []);
}

async function openRooms(scene: Scene, name: string): Promise<readonly string[]> {
  const opened = Array.from({ length: ROOMS }, (_, index) => `room-${name}-${index}`);
  scene.rooms.push(...opened);
  await scene.party.enter(opened, CLIENTS);
  await meet(scene, opened, 'the first edit');
  return opened;
}

/**
 * Every client makes an edit; then all of a room are on one Machine, and each has the edits of all.
 */
async function meet(
  { party, locations }: Scene,
  rooms: readonly string[],
  edit: string,
): Promise<void> {
  await party.edit(rooms, edit);
  await until(async () => {
    const scattered = locations.scattered(rooms, CLIENTS);
    const missing = await party.missing(rooms, edit);
    return shortened([...scattered, ...missing]);
  }, MEET_WITHIN_MS);
}
