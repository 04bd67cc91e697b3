/** Three Machines that share one database, which is killed and comes back while their clients go on. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { neededForPostgres, startPostgresServer } from '../support/postgres-server.ts';
import { neededForRedis, startRedisServer } from '../support/redis-server.ts';
import { skipUnlessFound } from '../support/needed.ts';
import { readinessAt } from '../support/readiness.ts';
import { callPatiently, callUntil, openVisitors, type Visitor } from './stories/visitors.ts';
import { startFleet, type Fleet } from './support/fleet.ts';
import { tell } from './support/telling.ts';
import { until } from './support/until.ts';

/** A test that hangs ends, and takes its Machines with it. */
const TIMEOUT_MS = 180_000;
const CLIENTS = 10;

/** A database that can be hurt. */
interface Database {
  readonly url: string;
  kill(): Promise<void>;
  /** Again, with what it had on disk. */
  start(): Promise<void>;
}

skipUnlessFound(neededForRedis, (program) => {
  testDatabase('Redis that keeps its data', (t) => startRedis(t, program, true));
  testDatabase('Redis that comes back empty', (t) => startRedis(t, program, false));
});

skipUnlessFound(neededForPostgres, (programs) => {
  testDatabase('Postgres', async (t) => {
    const server = await startPostgresServer(t, { programs, isDurable: true });
    return { url: server.url(), kill: () => server.kill(), start: () => server.start() };
  });
});

async function startRedis(t: TestContext, program: string, isDurable: boolean): Promise<Database> {
  const server = await startRedisServer(t, { program, isDurable });
  return { url: server.url, kill: () => server.kill(), start: () => server.start() };
}

function testDatabase(name: string, start: (t: TestContext) => Promise<Database>): void {
  describe(`with ${name}`, () => {
    // A hint would tell the owner where the store is what is to be tested.
    test('sessions stay with their Machine:', { timeout: TIMEOUT_MS }, async (t) => {
      const database = await start(t);
      const env = { SESSION_STORE_URL: database.url };
      const fleet = await startFleet(t, { hints: false, env });
      const { target, ledger } = fleet;

      await t.test('clients of each protocol come and go', async () => {
        for (const story of ['mcp', 'mcp-sse', 'rpc', 'cookie'] as const) {
          await tell({ story, target, times: CLIENTS });
        }
      });
      let visitors = await openVisitorsEverywhere(fleet);
      const unknownBefore = ledger.count({ why: 'unknown-session' });
      await t.test('they go on while the database is killed and comes back', async () => {
        visitors = await disturb(fleet, visitors, database);
      });
      await t.test(
        'no call goes astray, or takes more than one replay or one forward',
        async () => {
          await Promise.all(visitors.map((visitor) => visitor.leave()));
          await fleet.close();
          assert.deepEqual(ledger.faults(), []);
          // What was bound is known all the time, to somebody who is asked.
          assert.equal(ledger.count({ why: 'unknown-session' }), unknownBefore);
        },
      );
    });
  });
}

/** Sessions opened before go on all the time, those opened while it is away before and after its return. */
async function disturb(
  fleet: Fleet,
  visitors: readonly Visitor[],
  database: Pick<Database, 'kill' | 'start'>,
): Promise<readonly Visitor[]> {
  let isOver = false;
  const calling = visitors.map((visitor) => callUntil(visitor, () => isOver));
  let newcomers: readonly Visitor[];
  try {
    await database.kill();
    newcomers = await openVisitorsEverywhere(fleet);
    await callAll(newcomers);
    await untilStores(fleet, 'degraded');
    await database.start();
    await untilStores(fleet, 'healthy');
    await callAll(newcomers);
  } finally {
    isOver = true;
  }
  await Promise.all(calling);
  const all = [...visitors, ...newcomers];
  await Promise.all(all.map((visitor) => visitor.hear()));
  return all;
}

/** Some of each kind on each Machine. */
async function openVisitorsEverywhere({ machines, target }: Fleet): Promise<readonly Visitor[]> {
  return (await Promise.all(machines.map(({ id }) => openVisitors(target, id)))).flat();
}

async function callAll(visitors: readonly Visitor[]): Promise<void> {
  await Promise.all(visitors.map((visitor) => callPatiently(visitor)));
}

function untilStores({ machines }: Fleet, state: string): Promise<void> {
  return until(async () => {
    const stores = await Promise.all(
      machines.map(async ({ ports }) => (await readinessAt(ports.admin)).store.state),
    );
    return stores.filter((found) => found !== state).map((found) => `a store is ${found}`);
  });
}
