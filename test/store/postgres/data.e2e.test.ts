/**
 * The contents of the database, by the server's own clock, and concurrent access by several
 * sidecars.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test, type TestContext } from 'node:test';
import type { Binding } from '../../../src/session.ts';
import { systemClock, type Clock } from '../../../src/clock.ts';
import { statementOf } from '../../../src/store/postgres/statements.ts';
import type { SessionStore } from '../../../src/store/store.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { skipUnlessFound } from '../../support/needed.ts';
import { neededForPostgres, startPostgresServer } from '../../support/postgres-server.ts';
import { listOf } from '../every-operation.ts';
import { namespaceOf, openPostgres } from '../postgres-place.ts';
import { eventually } from '../redis-place.ts';

const A = machineId('a1');
const B = machineId('b2');
const TTL_MS = 60_000;
/** Clock differences on one computer, plus a round trip. */
const SLACK_MS = 5_000;

/** Multiplier for all time limits. */
const PATIENCE = 20;

function withLongerLimits(clock: Clock): Clock {
  return { ...clock, after: (ms, fn) => clock.after(PATIENCE * ms, fn) };
}

const MACHINES = Array.from({ length: 6 }, (_, index) => machineId(`m${index}`));

function bindingOf(name: string, changes: { machine?: typeof A; ttlMs?: number } = {}) {
  return { key: keyOf(name), machine: A, origin: 'learned', ttlMs: TTL_MS, ...changes } as const;
}

function namesOf(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `k-${index}`);
}

function isAbout(actual: number, expected: number): boolean {
  return Math.abs(actual - expected) < SLACK_MS;
}

function bound(found: Binding | 'absent' | 'unknown'): Binding {
  assert.ok(typeof found !== 'string', 'it is not bound');
  return found;
}

skipUnlessFound(neededForPostgres, (programs) => {
  const starting = startPostgresServer({ after }, { programs });
  before(async () => {
    await starting;
  });

  /**
   * With longer limits than in production: many clients at once may take long on a computer with
   * two cores.
   */
  async function open(t: TestContext, options: Parameters<typeof openPostgres>[2] = {}) {
    const url = `${(await starting).url()}?statement_timeout=${PATIENCE * 1_000}`;
    return openPostgres(t, url, { clock: withLongerLimits(systemClock), ...options });
  }
  function openMany(t: TestContext, options?: Parameters<typeof openPostgres>[2]) {
    return Promise.all(MACHINES.map(() => open(t, options)));
  }
  async function run(sql: string) {
    return (await starting).run(sql);
  }
  /** That many sessions of an origin, which expire after that time and in that order. */
  async function fill(t: TestContext, count: number, origin: number, expiresInMs: number) {
    await run(`
      INSERT INTO fly_affinity_sessions
        (namespace, key, machine, origin, generation, created_at, expires_at)
      SELECT '${namespaceOf(t)}', decode(md5(n || '/${origin}/${expiresInMs}'), 'hex'), 'a1',
        ${origin}, 1, now_ms - 1000, now_ms + ${expiresInMs} + n
      FROM generate_series(1, ${count}) AS n,
        LATERAL (SELECT floor(extract(epoch FROM now()) * 1000)::bigint AS now_ms) AS clock`);
  }

  describe('time is the clock of the database', () => {
    /** A Machine that has just resumed may not know how long it was suspended. */
    const lateClock = { ...withLongerLimits(systemClock), now: () => Date.now() - 3_600_000 };

    test('whatever time a sidecar reports, and each sees bindings in its own time', async (t) => {
      const [late, right] = [await open(t, { clock: lateClock }), await open(t)];
      const claimed = await late.claim(bindingOf('a'));
      assert.ok(isAbout(claimed.expiresAt, lateClock.now() + TTL_MS));
      assert.ok(isAbout(claimed.createdAt, lateClock.now()));
      const seen = bound(await right.lookup(keyOf('a')));
      assert.ok(isAbout(seen.expiresAt, Date.now() + TTL_MS));
      assert.ok(isAbout(seen.createdAt, Date.now()));
      const [row] = await run(
        `SELECT expires_at FROM fly_affinity_sessions WHERE namespace = '${namespaceOf(t)}'`,
      );
      assert.ok(isAbout(Number(row?.expires_at), Date.now() + TTL_MS));
    });

    test('and a creation time is transferred as an age', async (t) => {
      const [late, right] = [await open(t, { clock: lateClock }), await open(t)];
      const createdAt = lateClock.now() - 100_000;
      await late.upsert({ ...bindingOf('a'), generation: 1, createdAt });
      const seen = bound(await right.lookup(keyOf('a')));
      assert.ok(isAbout(seen.createdAt, Date.now() - 100_000));
    });

    test('and a binding is absent once that clock passes its expiry, and then cleaned up', async (t) => {
      const store = await open(t);
      await store.claim(bindingOf('a', { ttlMs: 300 }));
      await store.claim(bindingOf('b'));
      await eventually('it has expired', async () => (await store.lookup(keyOf('a'))) === 'absent');
      assert.equal((await listOf(store)).length, 1);
      assert.equal((await store.getMetrics()).expired, 1);
      assert.equal(await store.cleanup(), 1);
      assert.equal(await store.cleanup(), 0);
    });
  });

  test("two namespaces do not see each other's bindings", async (t) => {
    const limits = { maxSessions: 100, maxAgeMs: 0 };
    const one = await open(t, { namespace: `${namespaceOf(t)}-one`, limits });
    const other = await open(t, { namespace: `${namespaceOf(t)}-other`, limits });
    await Promise.all(namesOf(60).map((name) => one.claim(bindingOf(name))));
    assert.equal(await other.lookup(keyOf('k-0')), 'absent');
    await Promise.all(namesOf(90).map((name) => other.claim(bindingOf(name, { machine: B }))));
    assert.equal(bound(await one.lookup(keyOf('k-0'))).machine, A);
    assert.equal(await one.delete(keyOf('k-0')), true);
    assert.equal(await other.cleanup(), 0);
    assert.equal((await one.getMetrics()).total, 59);
    assert.equal((await other.getMetrics()).total, 90);
    assert.equal((await listOf(one)).length, 59);
    assert.equal(bound(await other.lookup(keyOf('k-0'))).machine, B);
  });

  describe('many sidecars at once', () => {
    test('claim each key once, and all of them receive its owner', async (t) => {
      const stores = await openMany(t);
      const received = await Promise.all(
        stores.map((store, index) => claimAll(store, namesOf(200), MACHINES[index] ?? A)),
      );
      for (const owners of received) assert.deepEqual(owners, received[0]);
      const fresh = await open(t);
      const owners = namesOf(200).map(
        async (name) => bound(await fresh.lookup(keyOf(name))).machine,
      );
      assert.deepEqual(await Promise.all(owners), received[0]);
    });

    test('move each key once, and all of them receive its new owner', async (t) => {
      const stores = await openMany(t);
      await claimAll(await open(t), namesOf(100), A);
      // All of them have read the key at its old owner before any of them may move it.
      const holder = await (await starting).connect();
      await holder.query('BEGIN');
      const ours = `SELECT FROM fly_affinity_sessions WHERE namespace = '${namespaceOf(t)}'`;
      await holder.query(`${ours} FOR UPDATE`);
      const moves = stores.map((store, index) =>
        moveAll(store, namesOf(100), MACHINES[index] ?? B),
      );
      await eventually('all of them wait', async () => {
        const waiting = await run(
          "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE%'",
        );
        return waiting.length >= stores.length;
      });
      await holder.query('ROLLBACK');
      const received = await Promise.all(moves);
      for (const owners of received) {
        assert.deepEqual(owners, received[0]);
        assert.ok(owners.every(([, generation]) => generation === 2));
      }
      const metrics = await Promise.all(stores.map((store) => store.getMetrics()));
      assert.equal(
        metrics.reduce((sum, { upserts }) => sum + upserts, 0),
        100,
      );
    });

    test('write many kinds of changes to the same few keys, and no write fails', async (t) => {
      const stores = await openMany(t);
      await Promise.all(
        stores.map(async (store, index) => {
          for (let round = 1; round <= 5; round += 1) {
            // Each in its own order.
            const names = namesOf(30).toSorted(inOrderOf(`${index}-${round}`));
            await writeAll(store, names, MACHINES[index] ?? A, round);
          }
        }),
      );
    });

    test('respect the limit together, before any cleanup', async (t) => {
      const limits = { maxSessions: 1_000, maxAgeMs: 0 };
      const stores = await openMany(t, { limits });
      await Promise.all(
        stores.map((store, index) =>
          claimAll(
            store,
            namesOf(500).map((name) => `${index}-${name}`),
            A,
          ),
        ),
      );
      await Promise.all(stores.map((store) => store.getMetrics()));
      const { total } = await (await open(t)).getMetrics();
      assert.ok(total >= 970 && total <= 1_030, `${total} are left`);
    });

    test('share a cleanup, remove no more than the excess, and wait for no lock', async (t) => {
      const limits = { maxSessions: 1_000, maxAgeMs: 0 };
      const stores = await openMany(t, { limits });
      await fill(t, 4_000, 0, -10_000);
      await fill(t, 1_500, 0, TTL_MS);
      const holder = await (await starting).connect();
      await holder.query('BEGIN');
      await holder.query(
        `SELECT FROM fly_affinity_sessions WHERE namespace = '${namespaceOf(t)}'
         ORDER BY expires_at LIMIT 10 FOR UPDATE`,
      );
      const removed = await Promise.all(stores.map((store) => store.cleanup()));
      const sum = removed.reduce((one, other) => one + other, 0);
      const left = await (await open(t, { limits })).getMetrics();
      // Rows that another session has locked stay until the next time.
      assert.deepEqual([left.expired, left.total], [10, 1_010]);
      assert.equal(sum, 3_990 + 500);
      await holder.query('ROLLBACK');
    });
  });

  test('a touch of a session that is being cleaned up or evicted waits for no lock', async (t) => {
    const limits = { maxSessions: 100, maxAgeMs: 0 };
    const store = await open(t, { limits });
    await fill(t, 2_000, 0, TTL_MS);
    const keys = (
      await run(
        `SELECT encode(key, 'hex') AS key FROM fly_affinity_sessions
         WHERE namespace = '${namespaceOf(t)}'`,
      )
    ).map(({ key }) => String(key) as Binding['key']);
    const other = await open(t);
    const [, touched] = await Promise.all([
      store.cleanup(),
      Promise.all(keys.map((key) => other.touch(key, TTL_MS))),
    ]);
    assert.equal(touched.length, 2_000);
    await store.cleanup();
    assert.equal((await store.getMetrics()).total, 100);
  });

  test('with a million sessions or a few, a point read and a cleanup use an index', async (t) => {
    await open(t);
    await fill(t, 20_000, 0, TTL_MS);
    await fill(t, 2_000, 1, -TTL_MS);
    await run('ANALYZE fly_affinity_sessions');
    const settings = { namespace: namespaceOf(t), maxAgeMs: 0, serverTime: undefined };
    const key = keyOf('a');
    for (const question of [
      { kind: 'lookup', key },
      { kind: 'touch', key, now: 0, ttlMs: TTL_MS },
      { kind: 'delete', key, now: 0, ifMachine: undefined },
    ] as const) {
      const plan = await explain(statementOf([question], settings));
      assert.match(plan, /Index Scan using fly_affinity_sessions_pkey/, plan);
      assert.doesNotMatch(plan, /Seq Scan/, plan);
    }
  });

  async function explain({ text, values }: ReturnType<typeof statementOf>): Promise<string> {
    const client = await (await starting).connect();
    const { rows } = await client.query<Record<string, string>>(`EXPLAIN ${text}`, [...values]);
    return rows.map((row) => row['QUERY PLAN']).join('\n');
  }
});

async function claimAll(store: SessionStore, names: readonly string[], machine: typeof A) {
  const claimed = await Promise.all(names.map((name) => store.claim(bindingOf(name, { machine }))));
  return claimed.map((binding) => binding.machine);
}

async function moveAll(store: SessionStore, names: readonly string[], to: typeof A) {
  return Promise.all(
    names.map(async (name) => {
      const moved = await store.rebind(keyOf(name), A, to, 'adopted', TTL_MS);
      return [moved?.machine, moved?.generation];
    }),
  );
}

/** Each kind of write to each of the keys, all called at once. */
async function writeAll(
  store: SessionStore,
  names: readonly string[],
  machine: typeof A,
  generation: number,
): Promise<void> {
  await Promise.all(
    names.flatMap((name): Promise<unknown>[] => [
      store.claim(bindingOf(name, { machine })),
      store.touch(keyOf(name), TTL_MS),
      store.upsert({ ...bindingOf(name, { machine }), generation }),
      store.rebind(keyOf(name), machine, B, 'learned', TTL_MS),
      store.expireWithin(keyOf(name), TTL_MS),
      store.delete(keyOf(name), machine),
    ]),
  );
}

function inOrderOf(seed: string) {
  return (one: string, other: string) =>
    keyOf(`${one}-${seed}`) < keyOf(`${other}-${seed}`) ? -1 : 1;
}
