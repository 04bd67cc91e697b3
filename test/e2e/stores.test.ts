/**
 * Three Machines that share one database, which is killed and restarted while their clients
 * continue.
 */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { neededForPostgres, startPostgresServer } from '../support/postgres-server.ts';
import { neededForRedis, startRedisServer } from '../support/redis-server.ts';
import { skipUnlessFound } from '../support/needed.ts';
import { readinessAt } from '../support/readiness.ts';
import { callWithRetries, callUntil, openVisitors, type Visitor } from './scenarios/visitors.ts';
import { startFleet, type Fleet } from './support/fleet.ts';
import { runScenario } from './support/run-scenario.ts';
import { until } from './support/until.ts';

/** A test that hangs ends, and stops its Machines. */
const TIMEOUT_MS = 180_000;
const CLIENTS = 10;

/** A database that can be killed. */
interface Database {
  readonly url: string;
  kill(): Promise<void>;
  /** Started again, with the data that it had on disk. */
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
    // A hint would identify the owner where the store is to be tested.
    test('sessions stay with their Machine:', { timeout: TIMEOUT_MS }, async (t) => {
      const database = await start(t);
      const env = { SESSION_STORE_URL: database.url };
      const fleet = await startFleet(t, { hints: false, env });
      const { target, ledger } = fleet;

      await t.test('clients of each protocol connect and disconnect', async () => {
        for (const scenario of ['mcp', 'mcp-sse', 'rpc', 'cookie'] as const) {
          await runScenario({ scenario, target, times: CLIENTS });
        }
      });
      let visitors = await openVisitorsEverywhere(fleet);
      const unknownBefore = ledger.count({ why: 'unknown-session' });
      await t.test('they continue while the database is killed and restarted', async () => {
        visitors = await disturb(fleet, visitors, database);
      });
      await t.test(
        'no call reaches the wrong Machine, or takes more than one replay or one forward',
        async () => {
          await Promise.all(visitors.map((visitor) => visitor.leave()));
          await fleet.close();
          assert.deepEqual(ledger.faults(), []);
          // Every Machine can look up the bindings the whole time.
          assert.equal(ledger.count({ why: 'unknown-session' }), unknownBefore);
        },
      );
    });
  });
}

/**
 * Sessions opened before continue the whole time, those opened during the outage before and after
 * its end.
 */
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
  await Promise.all(all.map((visitor) => visitor.nextPush()));
  return all;
}

/** Some of each kind on each Machine. */
async function openVisitorsEverywhere({ machines, target }: Fleet): Promise<readonly Visitor[]> {
  return (await Promise.all(machines.map(({ id }) => openVisitors(target, id)))).flat();
}

async function callAll(visitors: readonly Visitor[]): Promise<void> {
  await Promise.all(visitors.map((visitor) => callWithRetries(visitor)));
}

function untilStores({ machines }: Fleet, state: string): Promise<void> {
  return until(async () => {
    const stores = await Promise.all(
      machines.map(async ({ ports }) => (await readinessAt(ports.admin)).store.state),
    );
    return stores.filter((found) => found !== state).map((found) => `a store is ${found}`);
  });
}
