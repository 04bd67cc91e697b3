/** The probes of real databases, and that they change nothing there. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { probeDatabase } from '../../src/doctor/database.ts';
import { openPostgres } from '../store/postgres-place.ts';
import { skipUnlessFound } from '../support/needed.ts';
import {
  neededForPostgres,
  startPostgresServer,
  type PostgresServer,
} from '../support/postgres-server.ts';
import { neededForRedis, startRedisServer } from '../support/redis-server.ts';

const MAX_OFFSET_MS = 60_000;

skipUnlessFound(neededForRedis, (program) => {
  test('the Redis probe reports the clock and the eviction policy, and leaves no script or key', async (t) => {
    const server = await startRedisServer(t, { program });
    const probe = () => probeDatabase({ kind: 'redis', href: server.url }, systemClock);
    const { facts, clocks } = await probe();
    assert.deepEqual(facts.kind === 'usable' && facts.problems, []);
    assert.ok(Math.abs(clocks[0]?.offsetMs ?? NaN) < MAX_OFFSET_MS);
    assert.match(String(await server.command('INFO', 'memory')), /number_of_cached_scripts:0/);
    assert.equal(await server.command('DBSIZE'), 0);
    await server.command('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru');
    const evicting = await probe();
    assert.deepEqual(evicting.facts.kind === 'usable' && evicting.facts.problems, [
      { kind: 'evicts', policy: 'allkeys-lru' },
    ]);
    await server.command('REPLICAOF', '127.0.0.1', '1');
    const replica = await probe();
    assert.ok(replica.facts.kind === 'usable');
    assert.ok(replica.facts.problems.some(({ kind }) => kind === 'read-only'));
  });

  test('the Redis probe has no problems if the user may only run TIME', async (t) => {
    const server = await startRedisServer(t, { program });
    await server.command('ACL', 'SETUSER', 'narrow', 'on', '>s3cret', '+time');
    const href = `redis://narrow:s3cret@127.0.0.1:${server.port}`;
    const { facts } = await probeDatabase({ kind: 'redis', href }, systemClock);
    assert.deepEqual(facts.kind === 'usable' && facts.problems, []);
  });
});

skipUnlessFound(neededForPostgres, (programs) => {
  describe('Postgres', () => {
    const starting = startPostgresServer({ after }, { programs });
    let server: PostgresServer;
    before(async () => void (server = await starting));

    const probe = (href: string) => probeDatabase({ kind: 'postgres', href }, systemClock);
    const problems = async (href: string) => {
      const { facts } = await probe(href);
      assert.ok(facts.kind === 'usable', facts.kind === 'unusable' ? facts.reason : '');
      return facts.problems;
    };

    test('the probe reports the clock, and creates no table', async () => {
      const database = await server.createDatabase();
      const { facts, clocks } = await probe(server.url(database));
      assert.deepEqual(facts.kind === 'usable' && facts.problems, []);
      assert.ok(Math.abs(clocks[0]?.offsetMs ?? NaN) < MAX_OFFSET_MS);
      const tables = await server.run(
        "SELECT relname FROM pg_class WHERE relname LIKE 'fly_affinity%'",
        database,
      );
      assert.deepEqual(tables, []);
    });

    test('the probe has no problems on the tables of a sidecar', async (t) => {
      const url = server.url(await server.createDatabase());
      await openPostgres(t, url);
      assert.deepEqual(await problems(url), []);
    });

    test('the probe reports the tables of a newer sidecar', async (t) => {
      const database = await server.createDatabase();
      const url = server.url(database);
      await openPostgres(t, url);
      await server.run('INSERT INTO fly_affinity_migrations VALUES (99, 1)', database);
      assert.deepEqual(await problems(url), [{ kind: 'newer-schema', version: 99 }]);
    });

    test('the probe reports a read-only database', async () => {
      const database = await server.createDatabase();
      await server.run(`ALTER DATABASE ${database} SET default_transaction_read_only = on`);
      assert.deepEqual(await problems(server.url(database)), [{ kind: 'read-only' }]);
    });

    test('the probe reports a missing database without the password', async () => {
      const { facts } = await probe(server.url('nothing'));
      assert.ok(facts.kind === 'unusable');
      assert.match(facts.reason, /does not exist/);
    });
  });
});
