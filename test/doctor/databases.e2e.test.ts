/** What is found of real databases, and that they are left as they were. */
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
  test('Redis tells its time and how it evicts, and no script or key is in it afterwards', async (t) => {
    const server = await startRedisServer(t, { program });
    const look = () => probeDatabase({ kind: 'redis', href: server.url }, systemClock);
    const { facts, clocks } = await look();
    assert.deepEqual(facts.kind === 'answers' && facts.remarks, []);
    assert.ok(Math.abs(clocks[0]?.offsetMs ?? NaN) < MAX_OFFSET_MS);
    assert.match(String(await server.command('INFO', 'memory')), /number_of_cached_scripts:0/);
    assert.equal(await server.command('DBSIZE'), 0);
    await server.command('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru');
    const evicting = await look();
    assert.deepEqual(evicting.facts.kind === 'answers' && evicting.facts.remarks, [
      { kind: 'evicts', policy: 'allkeys-lru' },
    ]);
    await server.command('REPLICAOF', '127.0.0.1', '1');
    const replica = await look();
    assert.ok(replica.facts.kind === 'answers');
    assert.ok(replica.facts.remarks.some(({ kind }) => kind === 'read-only'));
  });

  test('Redis may keep everything but its time from its user', async (t) => {
    const server = await startRedisServer(t, { program });
    await server.command('ACL', 'SETUSER', 'narrow', 'on', '>s3cret', '+time');
    const href = `redis://narrow:s3cret@127.0.0.1:${server.port}`;
    const { facts } = await probeDatabase({ kind: 'redis', href }, systemClock);
    assert.deepEqual(facts.kind === 'answers' && facts.remarks, []);
  });
});

skipUnlessFound(neededForPostgres, (programs) => {
  describe('Postgres', () => {
    const starting = startPostgresServer({ after }, { programs });
    let server: PostgresServer;
    before(async () => void (server = await starting));

    const look = (href: string) => probeDatabase({ kind: 'postgres', href }, systemClock);
    const remarks = async (href: string) => {
      const { facts } = await look(href);
      assert.ok(facts.kind === 'answers', facts.kind === 'fails' ? facts.reason : '');
      return facts.remarks;
    };

    test('tells its time, and no table is in it afterwards', async () => {
      const database = await server.createDatabase();
      const { facts, clocks } = await look(server.url(database));
      assert.deepEqual(facts.kind === 'answers' && facts.remarks, []);
      assert.ok(Math.abs(clocks[0]?.offsetMs ?? NaN) < MAX_OFFSET_MS);
      const tables = await server.run(
        "SELECT relname FROM pg_class WHERE relname LIKE 'fly_affinity%'",
        database,
      );
      assert.deepEqual(tables, []);
    });

    test('with the tables of a sidecar is well', async (t) => {
      const url = server.url(await server.createDatabase());
      await openPostgres(t, url);
      assert.deepEqual(await remarks(url), []);
    });

    test('with the tables of a newer sidecar says so', async (t) => {
      const database = await server.createDatabase();
      const url = server.url(database);
      await openPostgres(t, url);
      await server.run('INSERT INTO fly_affinity_migrations VALUES (99, 1)', database);
      assert.deepEqual(await remarks(url), [{ kind: 'newer-schema', version: 99 }]);
    });

    test('that may only be read says so', async () => {
      const database = await server.createDatabase();
      await server.run(`ALTER DATABASE ${database} SET default_transaction_read_only = on`);
      assert.deepEqual(await remarks(server.url(database)), [{ kind: 'read-only' }]);
    });

    test('that is not there says so, without a password', async () => {
      const { facts } = await look(server.url('nothing'));
      assert.ok(facts.kind === 'fails');
      assert.match(facts.reason, /does not exist/);
    });
  });
});
