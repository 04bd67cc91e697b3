/** The behavior of the store when the server, or the connection to it, fails. */
import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { after, before, describe, test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { openPostgresStore } from '../../../src/store/postgres/postgres.ts';
import { StoreError } from '../../../src/store/store.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { skipUnlessFound } from '../../support/needed.ts';
import {
  neededForPostgres,
  startPostgresServer,
  type PostgresServer,
} from '../../support/postgres-server.ts';
import { freePort } from '../../support/free-port.ts';
import { errorResponse, listen } from '../../support/pooler.ts';
import { untilNothingIsLeft, watchResources } from '../../support/resources.ts';
import { claim, ownerIn } from '../claims.ts';
import { listOf } from '../every-operation.ts';
import { namespaceOf, openPostgres, openWatched } from '../postgres-place.ts';
import { eventually } from '../redis-place.ts';

const A = machineId('a1');
const B = machineId('b2');
const OURS = "application_name = 'fly-affinity'";
/** Every step may take longer on a busy computer. */
const SLACK_MS = 1_500;

const passing = { name: 'StoreError', code: 'passing' };

async function tookMs(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

skipUnlessFound(neededForPostgres, (programs) => {
  const starting = startPostgresServer({ after }, { programs });
  // Otherwise it would count as opened by the first test.
  before(async () => {
    await starting;
  });

  describe('a store that cannot be opened reports where, what was found and what to do', () => {
    test('where no server listens', async (t) => {
      const port = await freePort();
      await rejectsOpening(t, `postgres://u:hush@127.0.0.1:${port}/db`, 'passing', [
        /127\.0\.0\.1:\d+\/db/,
        /ECONNREFUSED.*connection refused/,
      ]);
    });

    test('where a server accepts connections and sends nothing', async (t) => {
      const port = await listen(t, (socket) => socket.resume());
      const failedOpen = (): Promise<void> =>
        rejectsOpening(t, `postgres://u:hush@127.0.0.1:${port}/db`, 'passing', [/timeout/]);
      assert.ok((await tookMs(failedOpen)) < 2_000 + SLACK_MS);
    });

    test('with a wrong password', async (t) => {
      const url = `postgres://fly:hush@127.0.0.1:${(await starting).port}/postgres`;
      await rejectsOpening(t, url, 'fatal', [
        /password authentication failed/,
        /SESSION_STORE_URL/,
      ]);
    });

    test('without a password', async (t) => {
      const url = `postgres://fly@127.0.0.1:${(await starting).port}/postgres`;
      await rejectsOpening(t, url, 'fatal', [/password/, /SESSION_STORE_URL/]);
    });

    test('in a database that does not exist', async (t) => {
      await rejectsOpening(t, (await starting).url('nowhere'), 'fatal', [/nowhere/, /create it/]);
    });

    test('where the user may create no tables', async (t) => {
      const server = await starting;
      const database = await server.createDatabase();
      await server.run(
        `CREATE ROLE guest LOGIN PASSWORD 'hush'; REVOKE CREATE ON SCHEMA public FROM PUBLIC`,
        database,
      );
      const url = `postgres://guest:hush@127.0.0.1:${server.port}/${database}`;
      await rejectsOpening(t, url, 'fatal', [/GRANT the user CREATE/]);
    });

    test('with TLS, where the server has none', async (t) => {
      await rejectsOpening(t, `${(await starting).url()}?sslmode=verify-full`, 'fatal', [/SSL/]);
    });

    test('with a URL that is invalid', async (t) => {
      await rejectsOpening(t, 'postgres://u:hush@one:5432,two:5432/db', 'fatal', [
        /postgres:\/\/USER:PASSWORD@HOST/,
      ]);
    });
  });

  test('a close leaves no connection and no operation open', async (t) => {
    const server = await starting;
    const watch = watchResources(t);
    const store = await openPostgres(t, server.url(), { clock: watch.clock });
    const claims = Array.from({ length: 300 }, (_, index) => claim(store, `k-${index}`));
    const lookups = Array.from({ length: 300 }, (_, index) => ownerIn(store, keyOf(`n-${index}`)));
    await store.close();
    assert.equal((await Promise.all(claims)).length, 300);
    assert.deepEqual(new Set(await Promise.all(lookups)), new Set(['absent']));
    await untilNothingIsLeft(watch);
  });

  test('a close succeeds although the server ends the connection with an error meanwhile', async (t) => {
    const server = await starting;
    const goodbye = 'X'.charCodeAt(0);
    const port = await listen(t, (socket) => {
      const upstream = connect(server.port, '127.0.0.1');
      upstream.on('error', () => socket.destroy());
      upstream.pipe(socket);
      socket.on('data', (data: Buffer) => {
        if (data[0] === goodbye) socket.write(errorResponse('57P01', 'going down'));
        upstream.write(data);
      });
    });
    const store = await openPostgres(t, server.url().replace(`:${server.port}/`, `:${port}/`));
    await claim(store, 'a');
    await store.close();
  });

  describe('a server that was frozen', () => {
    test('delays a write by a second and a lookup by half a second, and is used again once it resumes', async (t) => {
      const server = await startPostgresServer(t, { programs });
      const { store, errors } = await openWatched(t, server.url());
      await claim(store, 'old');
      await server.freeze();
      const claims = Array.from({ length: 50 }, (_, index) => claim(store, `new-${index}`));
      const claimsMs = await tookMs(() => Promise.allSettled(claims));
      for (const each of claims) await assert.rejects(each, passing);
      assert.ok(claimsMs > 500 && claimsMs < 1_000 + SLACK_MS, `${claimsMs} ms`);
      const lookupMs = await tookMs(async () => {
        assert.equal(await ownerIn(store, keyOf('unheard-of')), 'unknown');
      });
      assert.ok(lookupMs < 500 + SLACK_MS, `${lookupMs} ms`);
      assert.equal(await ownerIn(store, keyOf('unheard-of-either')), 'unknown');
      assert.equal(errors.length, 1);
      await server.thaw();
      await eventually('it claims', () =>
        claim(store, 'newer').then(
          () => true,
          () => false,
        ),
      );
      assert.equal(await ownerIn(store, keyOf('old')), A);
    });

    test('does not delay a close, and leaves nothing open', async (t) => {
      const server = await startPostgresServer(t, { programs });
      const watch = watchResources(t);
      const store = await openPostgres(t, server.url(), { clock: watch.clock });
      await Promise.all(Array.from({ length: 200 }, (_, index) => claim(store, `k-${index}`)));
      // The background count of the rows ends first: its transaction has a longer timeout.
      await store.cleanup();
      await server.freeze();
      const counting = assert.rejects(store.getMetrics(), passing);
      await nextTurn();
      const closingMs = await tookMs(() => store.close());
      assert.ok(closingMs < 1_000 + SLACK_MS, `${closingMs} ms`);
      await counting;
      await server.thaw();
      await untilNothingIsLeft(watch);
    });
  });

  test('a response that arrived in time is accepted, however busy this process was', async (t) => {
    const store = await openPostgres(t, (await starting).url());
    // Ensures that there are enough connections.
    await Promise.all(Array.from({ length: 200 }, (_, index) => claim(store, `k-${index}`)));
    await store.getMetrics();
    const owners = [
      claim(store, 'new').then(({ machine }) => machine),
      ownerIn(store, keyOf('unheard-of')),
    ];
    await nextTurn();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_200);
    assert.deepEqual(await Promise.all(owners), [A, 'absent']);
  });

  test('unresponsive connections are closed and replaced', async (t) => {
    const server = await starting;
    const database = await server.createDatabase();
    const unresponsive = new Set<Socket>();
    const port = await listen(t, (socket) => {
      const upstream = connect(server.port, '127.0.0.1');
      upstream.on('error', () => socket.destroy());
      upstream.on('end', () => socket.end());
      upstream.on('data', (data: Buffer) => unresponsive.has(socket) || socket.write(data));
      socket.on('data', (data) => unresponsive.has(socket) || upstream.write(data));
      socket.on('close', () => upstream.destroy());
      sockets.add(socket);
    });
    const sockets = new Set<Socket>();
    const url = server.url(database).replace(`:${server.port}/`, `:${port}/`);
    const store = await openPostgres(t, url);
    await Promise.all(Array.from({ length: 200 }, (_, index) => claim(store, `k-${index}`)));
    assert.equal(sockets.size, 4);
    for (const socket of sockets) unresponsive.add(socket);
    const claims = Array.from({ length: 20 }, (_, index) => claim(store, `lost-${index}`));
    await Promise.all(claims.map((each) => assert.rejects(each, passing)));
    const recoveryMs = await tookMs(() =>
      eventually('it claims', () =>
        claim(store, 'new').then(
          () => true,
          () => false,
        ),
      ),
    );
    assert.ok(recoveryMs < 1_000 + SLACK_MS, `${recoveryMs} ms`);
  });

  test('a server that is killed and started again has all acknowledged writes', async (t) => {
    const server = await startPostgresServer(t, { programs, isDurable: true });
    const { store, errors, disruptions } = await openWatched(t, server.url());
    const acknowledged: string[] = [];
    const failures = new Set<unknown>();
    let isOver = false;
    const work = async (worker: number): Promise<void> => {
      for (let index = 0; !isOver; index += 1) {
        const name = `k-${worker}-${index}`;
        await claim(store, name).then(
          () => acknowledged.push(name),
          (error: unknown) => failures.add(error instanceof StoreError ? error.code : error),
        );
        if (failures.size > 0) await new Promise((resolve) => setImmediate(resolve));
      }
    };
    const workers = Array.from({ length: 12 }, (_, worker) => work(worker));
    for (let round = 1; round <= 3; round += 1) {
      const before = acknowledged.length;
      await eventually('it claims', () => acknowledged.length > before + 200);
      await server.kill();
      await server.start();
    }
    const before = acknowledged.length;
    await eventually('it claims', () => acknowledged.length > before + 200);
    isOver = true;
    await Promise.all(workers);
    assert.deepEqual([...failures], ['passing']);
    // At least once per kill, and not for each operation that failed.
    assert.ok(disruptions() >= 3 && disruptions() <= 12, `${disruptions()} disruptions`);
    assert.ok(errors.length <= 12, errors.join('\n'));
    const fresh = await openPostgres(t, server.url());
    const owners = new Map((await listOf(fresh)).map(({ key, machine }) => [key, machine]));
    const lost = acknowledged.filter((name) => owners.get(keyOf(name)) !== A);
    assert.deepEqual(lost, []);
  });

  describe('connections that the server ends', () => {
    test('while they are idle are reported once, and the next operation opens another', async (t) => {
      const server = await starting;
      const database = await server.createDatabase();
      const { store, errors, disruptions } = await openWatched(t, server.url(database));
      await Promise.all(Array.from({ length: 200 }, (_, index) => claim(store, `k-${index}`)));
      const ended = await server.run(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE ${OURS} AND datname = '${database}'`,
      );
      assert.equal(ended.length, 4);
      await eventually('the error is reported', () => disruptions() > 0);
      await eventually('all have ended', async () => {
        const left = await server.run(
          `SELECT 1 FROM pg_stat_activity WHERE ${OURS} AND datname = '${database}'`,
        );
        return left.length === 0;
      });
      assert.equal(disruptions(), 1);
      assert.equal(errors.length, 1);
      assert.equal((await claim(store, 'new')).machine, A);
      assert.match(errors[0] ?? '', /^passing: the connection failed/);
    });

    test('while they are in use fail their operations', async (t) => {
      const server = await starting;
      const database = await server.createDatabase();
      const { store, disruptions } = await openWatched(t, server.url(database));
      await claim(store, 'held');
      const holder = await holdRow(server, database);
      const refused = assert.rejects(claim(store, 'held', B), passing);
      await eventually('it waits', async () => (await waitingCount(server, database)) === 1);
      await server.run(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE ${OURS} AND datname = '${database}' AND wait_event_type = 'Lock'`,
      );
      await refused;
      assert.equal(disruptions(), 1);
      await holder.query('ROLLBACK');
      assert.equal((await claim(store, 'held', B)).machine, A);
    });
  });

  test('behind a lock of another session a write fails within a second, and no session is left waiting', async (t) => {
    const server = await starting;
    const database = await server.createDatabase();
    const store = await openPostgres(t, server.url(database));
    await claim(store, 'held');
    const holder = await holdRow(server, database);
    const waiting = tookMs(() => assert.rejects(claim(store, 'held', B), passing));
    const others = Array.from({ length: 100 }, (_, index) => claim(store, `other-${index}`));
    assert.equal((await Promise.all(others)).length, 100);
    const waitedMs = await waiting;
    assert.ok(waitedMs < 1_000 + SLACK_MS, `${waitedMs} ms`);
    await eventually('none waits', async () => (await waitingCount(server, database)) === 0);
    await holder.query('ROLLBACK');
    assert.equal((await claim(store, 'held', B)).machine, A);
  });

  test('a server that becomes read-only fails writes and still serves reads', async (t) => {
    const server = await starting;
    const database = await server.createDatabase();
    const store = await openPostgres(t, server.url(database));
    await claim(store, 'old');
    const reader = await openPostgres(t, server.url(database));
    await server.run(
      `ALTER DATABASE ${database} SET default_transaction_read_only = on;
       SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${database}'`,
    );
    await eventually('it is read-only', () =>
      claim(store, 'new').then(
        () => false,
        (error: unknown) => String(error).includes('read-only'),
      ),
    );
    await assert.rejects(claim(store, 'new'), passing);
    assert.equal(await ownerIn(reader, keyOf('old')), A);
    // An open must not write either.
    assert.equal(await ownerIn(await openPostgres(t, server.url(database)), keyOf('old')), A);
    await server.run(
      `ALTER DATABASE ${database} RESET default_transaction_read_only;
       SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${database}'`,
    );
    await eventually('it claims', () =>
      claim(store, 'new').then(
        () => true,
        () => false,
      ),
    );
  });
});

/** Asserts also that no secret is in the error, and that nothing is left open. */
async function rejectsOpening(
  t: TestContext,
  url: string,
  code: string,
  patterns: readonly RegExp[],
): Promise<void> {
  const watch = watchResources(t);
  const limits = { maxSessions: 1_000, maxAgeMs: 0 };
  const opening = openPostgresStore({ url, namespace: namespaceOf(t), clock: watch.clock, limits });
  await assert.rejects(opening, (error) => {
    assert.ok(error instanceof StoreError);
    assert.equal(error.code, code, error.message);
    for (const pattern of patterns) assert.match(error.message, pattern);
    assert.doesNotMatch(error.message, /hush|s3cret/);
    return true;
  });
  await untilNothingIsLeft(watch);
}

/** A session that has locked the only row, and does not end. */
async function holdRow(server: PostgresServer, database: string) {
  const holder = await server.connect(database);
  await holder.query('BEGIN');
  await holder.query('UPDATE fly_affinity_sessions SET generation = generation');
  return holder;
}

async function waitingCount(server: PostgresServer, database: string): Promise<number> {
  const [row] = await server.run(
    `SELECT count(*) AS count FROM pg_stat_activity
     WHERE ${OURS} AND datname = '${database}' AND wait_event_type = 'Lock'`,
  );
  return Number(row?.count);
}
