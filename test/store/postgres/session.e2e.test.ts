/**
 * The settings and prepared statements of a session at the server, and their behavior behind a
 * pooler.
 */
import assert from 'node:assert/strict';
import { after, test, type TestContext } from 'node:test';
import { systemClock } from '../../../src/clock.ts';
import { openPostgresPool, type PostgresPool } from '../../../src/store/postgres/pool.ts';
import { withSettings } from '../../../src/store/postgres/pool.ts';
import { skipUnlessFound } from '../../support/needed.ts';
import { startPooler } from '../../support/pooler.ts';
import { neededForPostgres, startPostgresServer } from '../../support/postgres-server.ts';
import { everyOperationWorks } from '../every-operation.ts';
import { openPostgres } from '../postgres-place.ts';

const LIMIT_MS = 5_000;

async function open(t: TestContext, url: string): Promise<PostgresPool> {
  const pool = await openPostgresPool(url, systemClock, () => undefined);
  t.after(() => pool.close());
  return pool;
}

/** Of the connection in use: the number of prepared statements, and the time limit. */
async function readState(pool: PostgresPool): Promise<{ preparedCount: number; limit: unknown }> {
  const text = `SELECT (SELECT count(*) FROM pg_prepared_statements) AS count,
    current_setting('statement_timeout') AS limit`;
  const [row] = await pool.query(text, [], LIMIT_MS);
  return { preparedCount: Number(row?.count), limit: row?.limit };
}

skipUnlessFound(neededForPostgres, (programs) => {
  const starting = startPostgresServer({ after }, { programs });

  test('a direct session has a time limit, and keeps its prepared statements', async (t) => {
    const pool = await open(t, (await starting).url());
    assert.deepEqual(await readState(pool), { preparedCount: 1, limit: '907ms' });
    await pool.query('SELECT $1::int', [1], LIMIT_MS);
    await pool.query('SELECT $1::int', [2], LIMIT_MS);
    assert.deepEqual(await readState(pool), { preparedCount: 2, limit: '907ms' });
  });

  test('a transaction may take longer than a statement', async (t) => {
    const pool = await open(t, (await starting).url());
    const [row] = await pool.transaction((query) => query('SHOW statement_timeout'));
    assert.equal(row?.statement_timeout, '10s');
    assert.equal((await readState(pool)).limit, '907ms');
  });

  test('other settings of the URL are set too', async (t) => {
    const server = await starting;
    const database = await server.createDatabase();
    await server.run('CREATE SCHEMA elsewhere', database);
    const url = `${server.url(database)}?options=-c%20search_path%3Delsewhere`;
    const store = await openPostgres(t, url);
    await everyOperationWorks(store, await openPostgres(t, url));
    const tables = await server.run(
      "SELECT schemaname FROM pg_tables WHERE tablename = 'fly_affinity_sessions'",
      database,
    );
    assert.deepEqual(tables, [{ schemaname: 'elsewhere' }]);
  });

  for (const aboutSettings of ['refuses', 'ignores'] as const) {
    test(`behind a pooler that ${aboutSettings} settings nothing is set or prepared, and all operations work`, async (t) => {
      const server = await starting;
      const database = await server.createDatabase();
      const pooler = await startPooler(t, server, aboutSettings);
      const pool = await open(t, pooler.url(database));
      await pool.query('SELECT $1::int', [1], LIMIT_MS);
      assert.deepEqual(await readState(pool), { preparedCount: 0, limit: '0' });
      const store = await openPostgres(t, pooler.url(database));
      await everyOperationWorks(store, await openPostgres(t, pooler.url(database)));
    });
  }

  test('when the prepared statements are gone, one statement fails and the next ones are sent unprepared', async (t) => {
    const pool = await open(t, (await starting).url());
    await pool.query('SELECT $1::int', [1], LIMIT_MS);
    await pool.transaction((query) => query('DEALLOCATE ALL'));
    await assert.rejects(pool.query('SELECT $1::int', [1], LIMIT_MS), { code: '26000' });
    await pool.query('SELECT $1::int', [1], LIMIT_MS);
    assert.equal((await readState(pool)).preparedCount, 0);
  });
});

test('settings precede those of the URL, so that the URL prevails, and leave the rest of it unchanged', () => {
  const url = 'postgres://me:p%40ss@h:6543/db?sslmode=no-verify&options=-c%20work_mem%3D1MB';
  const set = new URL(withSettings(url));
  assert.match(
    set.searchParams.get('options') ?? '',
    /^-c statement_timeout=907 .* -c work_mem=1MB$/,
  );
  assert.equal(set.searchParams.get('sslmode'), 'no-verify');
  assert.equal(set.href.split('?')[0], url.split('?')[0]);
});
