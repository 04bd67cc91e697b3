import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { after, describe, test } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import type { MigrationStep } from '../../src/store/migrations.ts';
import { openPostgresPool } from '../../src/store/postgres/pool.ts';
import {
  migratePostgres,
  POSTGRES_SCHEMA_VERSION,
  POSTGRES_STEPS,
} from '../../src/store/postgres/schema.ts';
import { keyOf, machineId } from '../support/ids.ts';
import { skipUnlessFound } from '../support/needed.ts';
import { neededForPostgres, startPostgresServer } from '../support/postgres-server.ts';
import { startAtOnce } from '../support/starters.ts';
import { everyOperationWorks } from './every-operation.ts';
import { openPostgres } from './postgres-place.ts';
import { eventually } from './redis-place.ts';

const STARTER = fileURLToPath(new URL('postgres-starter.ts', import.meta.url));
const STARTER_COUNT = 20;
/** Schema changes that a later version of fly-affinity might make. */
const ADDITIVE: MigrationStep = {
  oldestReader: 1,
  sql: `ALTER TABLE fly_affinity_sessions ADD COLUMN region text NOT NULL DEFAULT 'nowhere';
        CREATE INDEX fly_affinity_sessions_by_region ON fly_affinity_sessions (region)`,
};
const INCOMPATIBLE: MigrationStep = {
  oldestReader: POSTGRES_SCHEMA_VERSION + 1,
  sql: 'ALTER TABLE fly_affinity_sessions RENAME COLUMN machine TO owner',
};

test('a released step never changes', () => {
  assert.deepEqual(
    POSTGRES_STEPS.map(({ sql }) => hash('sha256', sql.replaceAll(/\s+/g, ' ')).slice(0, 12)),
    ['743f9cf7ed65'],
  );
});

skipUnlessFound(neededForPostgres, (programs) => {
  const starting = startPostgresServer({ after }, { programs });

  async function createDatabase() {
    const server = await starting;
    const database = await server.createDatabase();
    const url = server.url(database);
    const run = (sql: string) => server.run(sql, database);
    return { url, run, versions: () => versionsIn(run), migrate: migrateWith(url) };
  }

  test('twenty processes that start at once on an empty database migrate it once and agree', async (t) => {
    const { url, run, versions } = await createDatabase();
    const winners = await startAtOnce(
      t,
      STARTER,
      Array.from({ length: STARTER_COUNT }, (_, index) => [url, `m${index}`]),
    );
    const [winner] = winners;
    assert.match(winner ?? '', /^m\d+$/);
    assert.deepEqual(winners, Array<string | undefined>(STARTER_COUNT).fill(winner));
    assert.deepEqual(await versions(), [[POSTGRES_SCHEMA_VERSION, 1]]);
    assert.equal((await run('SELECT 1 FROM fly_affinity_sessions')).length, 1);
  });

  test('each step runs once with any number of starting processes, and is recorded with its time', async () => {
    const { run, versions, migrate } = await createDatabase();
    const steps = [
      ...POSTGRES_STEPS,
      { oldestReader: 1, sql: 'CREATE TABLE notes (n int); INSERT INTO notes (n) VALUES (1)' },
      { oldestReader: 3, sql: 'INSERT INTO notes (n) VALUES (2)' },
      { oldestReader: 2, sql: 'INSERT INTO notes (n) VALUES (3)' },
    ];
    for (const count of [1, 2, steps.length, steps.length]) {
      const some = steps.slice(0, count);
      await Promise.all([migrate(some), migrate(some), migrate(some)]);
    }
    assert.deepEqual(
      (await run('SELECT n FROM notes ORDER BY n')).map(({ n }) => n),
      [1, 2, 3],
    );
    assert.deepEqual(await versions(), [
      [1, 1],
      [2, 1],
      [3, 3],
      [4, 3],
    ]);
    const [latest] = await run('SELECT max(applied_at) AS at FROM fly_affinity_migrations');
    assert.ok(Math.abs(Number(latest?.at) - Date.now()) < 60_000);
  });

  test('a step that fails keeps the steps before it and leaves nothing of its own', async () => {
    const { run, versions, migrate } = await createDatabase();
    const sql = 'CREATE TABLE notes (n int); INSERT INTO nowhere (n) VALUES (2)';
    await assert.rejects(migrate([...POSTGRES_STEPS, { oldestReader: 1, sql }]), { code: '42P01' });
    assert.deepEqual(await versions(), [[POSTGRES_SCHEMA_VERSION, 1]]);
    assert.deepEqual(await run("SELECT to_regclass('notes') AS name"), [{ name: null }]);
  });

  test('a server that is killed during a step has nothing of it, and all sessions', async (t) => {
    const server = await startPostgresServer(t, { programs, isDurable: true });
    const store = await openPostgres(t, server.url());
    const claim = { key: keyOf('a'), machine: machineId('a1'), origin: 'learned' } as const;
    const claimed = await store.claim({ ...claim, ttlMs: 60_000 });
    const sql = `DELETE FROM fly_affinity_sessions; CREATE TABLE half (n int); SELECT pg_sleep(9)`;
    const migrate = migrateWith(server.url());
    const failed = assert.rejects(migrate([...POSTGRES_STEPS, { oldestReader: 1, sql }]));
    await eventually('the step is in progress', async () => {
      const sleeping = `SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'`;
      return (await server.run(sleeping)).length === 1;
    });
    await server.kill();
    await failed;
    await server.start();
    const again = await openPostgres(t, server.url());
    const found = await again.lookup(claim.key);
    assert.equal(typeof found === 'string' ? found : found.machine, claimed.machine);
    assert.deepEqual(await server.run("SELECT to_regclass('half') AS name"), [{ name: null }]);
    await migrate([...POSTGRES_STEPS, ADDITIVE]);
  });

  describe('a newer fly-affinity', () => {
    test('that added a column in use affects neither this version nor its next start', async (t) => {
      const { url, versions, migrate } = await createDatabase();
      const store = await openPostgres(t, url);
      await everyOperationWorks(store, await openPostgres(t, url));
      await migrate([...POSTGRES_STEPS, ADDITIVE]);
      await everyOperationWorks(store, await openPostgres(t, url));
      await everyOperationWorks(await openPostgres(t, url), await openPostgres(t, url));
      assert.equal((await versions()).length, POSTGRES_SCHEMA_VERSION + 1);
    });

    test('with a schema that this version does not understand prevents the open', async (t) => {
      const { url, migrate } = await createDatabase();
      await migrate([...POSTGRES_STEPS, INCOMPATIBLE, { oldestReader: 1, sql: 'SELECT 1' }]);
      await assert.rejects(openPostgres(t, url), {
        name: 'StoreError',
        code: 'fatal',
        message: new RegExp(
          `version ${POSTGRES_SCHEMA_VERSION + 2}.*version ${POSTGRES_SCHEMA_VERSION} at most.*newer`,
        ),
      });
    });
  });
});

function migrateWith(url: string) {
  return async (steps: readonly MigrationStep[]): Promise<void> => {
    const pool = await openPostgresPool(url, systemClock, () => undefined);
    await migratePostgres(pool, steps).finally(() => pool.close());
  };
}

async function versionsIn(
  run: (sql: string) => Promise<readonly Record<string, unknown>[]>,
): Promise<unknown[][]> {
  const rows = await run(
    'SELECT version, oldest_reader FROM fly_affinity_migrations ORDER BY version',
  );
  return rows.map(({ version, oldest_reader: oldestReader }) => [version, oldestReader]);
}
