/** Real servers that are killed, frozen and restarted while two Machines use them. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test, type TestContext } from 'node:test';
import type { Binding, MachineId, SessionKey } from '../../../src/session.ts';
import { systemClock } from '../../../src/clock.ts';
import type { StoreHooks } from '../../../src/store/resilient/status.ts';
import { openPostgresStore } from '../../../src/store/postgres/postgres.ts';
import { openRedisStore } from '../../../src/store/redis/redis.ts';
import type { SessionStore } from '../../../src/store/store.ts';
import { keyOf, keysOf, machineId } from '../../support/ids.ts';
import { skipUnlessFound } from '../../support/needed.ts';
import { neededForPostgres, startPostgresServer } from '../../support/postgres-server.ts';
import { neededForRedis, startRedisServer } from '../../support/redis-server.ts';
import { listOf } from '../every-operation.ts';
import { openWrapped, type Wrapped } from '../wrapped.ts';
import { ownerIn } from '../claims.ts';

const A = machineId('a1');
const B = machineId('b2');
const TTL_MS = 600_000;
const LIMITS = { maxSessions: 1_000_000, maxAgeMs: 0 };
/** The second that a write may take, plus delays of a busy computer. */
const MAX_CALL_MS = 2_500;
const TIMEOUT_MS = 60_000;

/** A server, and how a Machine opens its store on it. */
interface Database {
  kill(): Promise<void>;
  start(): Promise<void>;
  freeze(): void | Promise<void>;
  thaw(): void | Promise<void>;
  open(hooks: StoreHooks): Promise<SessionStore>;
}

type StartDatabase = (t: TestContext) => Promise<Database>;

skipUnlessFound(neededForRedis, (program) => {
  const start =
    (isDurable: boolean): StartDatabase =>
    async (t) => {
      const server = await startRedisServer(t, { program, isDurable });
      const of = { url: server.url, namespace: 'test', clock: systemClock, limits: LIMITS };
      return {
        ...server,
        open: (hooks) => openRedisStore({ ...of, random: Math.random, ...hooks }),
      };
    };
  describe('Redis, with all acknowledged writes', () => survivesFailures(start(true)));
  describe('Redis that comes back empty', () => survivesFailures(start(false)));
});

skipUnlessFound(neededForPostgres, (programs) => {
  describe('Postgres', () =>
    survivesFailures(async (t) => {
      const server = await startPostgresServer(t, { programs });
      const of = { url: server.url(), namespace: randomUUID(), clock: systemClock, limits: LIMITS };
      return { ...server, open: (hooks) => openPostgresStore({ ...of, ...hooks }) };
    }));
});

function survivesFailures(start: StartDatabase): void {
  test('killed and frozen under load, it has all writes of its Machines in the end', async (t) => {
    const database = await start(t);
    const [a, b] = [await join(t, database, A), await join(t, database, B)];
    const loads = [createLoad(a, A), createLoad(b, B)];
    const hurting = hurt(database, () => loads.map((load) => load.callCount())).finally(() => {
      for (const load of loads) load.stop();
    });
    await Promise.all([hurting, ...loads.map((load) => load.run())]);
    await eventually('both have recovered', () =>
      [a, b].every((store) => store.health().state === 'healthy'),
    );
    const held = await heldBy(database);
    for (const load of loads) load.compare(held);
    for (const store of [a, b]) assert.ok(store.reported.length > 0, 'it has detected no failure');
    assert.deepEqual([...a.conflicts, ...b.conflicts], []);
  });

  test('two Machines that bound one session while it was down agree on its owner', async (t) => {
    const database = await start(t);
    const [a, b] = [await join(t, database, A), await join(t, database, B)];
    await database.kill();
    const keys = keysOf('both', 50);
    const claims = keys.flatMap((key) => [a.claim(of(key, A)), b.claim(of(key, B))]);
    await Promise.all(claims);
    assert.equal(a.isShared, false);
    await database.start();
    await eventually('both have recovered', () =>
      [a, b].every((store) => store.health().state === 'healthy'),
    );
    const held = await heldBy(database);
    for (const key of keys) {
      const owner = held.get(key)?.machine;
      assert.ok(owner);
      for (const store of [a, b])
        await eventually('seen', async () => owner === (await ownerIn(store, key)));
    }
    assert.equal(a.conflicts.length + b.conflicts.length, keys.length);
  });

  test('a Machine that starts while it is down serves immediately, and flushes its changes later', async (t) => {
    const database = await start(t);
    await database.kill();
    const store = await join(t, database, A);
    const key = keyOf('early');
    assert.equal(await store.lookup(key), 'unknown');
    const bound = await store.claim(of(key, A));
    await database.start();
    await eventually('recovered', () => store.health().state === 'healthy');
    const found = (await heldBy(database)).get(key);
    assert.equal(found?.machine, bound.machine);
  });
}

function join(t: TestContext, database: Database, self: MachineId): Promise<Wrapped> {
  return openWrapped(
    t,
    { clock: systemClock, limits: LIMITS },
    {
      ...{ self, isShared: true, kind: 'redis', ttlMs: TTL_MS, random: Math.random },
      ...{ retryCount: 3, retryDelayMs: 100, open: (hooks) => database.open(hooks) },
    },
  );
}

/** A crash, a pause that requests can wait for, one that they can't, and a crash in a pause. */
async function hurt(database: Database, countCalls: () => readonly number[]): Promise<void> {
  const work = async (): Promise<void> => {
    const before = countCalls();
    const isDone = (): boolean =>
      countCalls().every((count, at) => count > (before[at] ?? 0) + 100);
    await eventually('the Machines continue', isDone);
  };
  await work();
  await database.kill();
  await work();
  await database.start();
  await work();
  for (const pauseMs of [300, 2_500]) {
    await database.freeze();
    await systemClock.sleep(pauseMs);
    await work();
    await database.thaw();
    await work();
  }
  await database.freeze();
  await work();
  await database.kill();
  await work();
  await database.start();
  await work();
}

interface Load {
  run(): Promise<void>;
  stop(): void;
  callCount(): number;
  compare(held: ReadonlyMap<SessionKey, Binding>): void;
}

const SESSIONS_AT_ONCE = 8;

/** Sessions that are bound, looked up, used and ended, some of them moved here first. */
function createLoad(store: SessionStore, self: MachineId): Load {
  const owned = new Set<SessionKey>();
  const ended = new Set<SessionKey>();
  let isStopped = false;
  let calls = 0;
  let slowestMs = 0;

  const timed = async <Result>(work: Result | Promise<Result>): Promise<Result> => {
    const startedAt = performance.now();
    const result = await work;
    slowestMs = Math.max(slowestMs, performance.now() - startedAt);
    calls += 1;
    return result;
  };
  const bind = async (key: SessionKey, isMoved: boolean): Promise<void> => {
    const former = machineId('gone');
    if (isMoved) await timed(store.claim(of(key, former)));
    const bound = isMoved
      ? await timed(store.rebind(key, former, self, 'adopted', TTL_MS))
      : await timed(store.claim(of(key, self)));
    assert.equal(bound?.machine, self);
    owned.add(key);
  };
  const live = async (number: number): Promise<void> => {
    const key = keyOf(`${self}-${number}`);
    await bind(key, number % 3 === 0);
    const found = await timed(store.lookup(key));
    assert.equal(typeof found === 'string' ? found : found.machine, self);
    assert.equal(await timed(store.touch(key, TTL_MS)), true);
    if (number % 4 !== 0) return;
    owned.delete(key);
    await timed(store.delete(key, self));
    ended.add(key);
    assert.equal(typeof (await timed(store.lookup(key))), 'string');
  };
  let number = 0;
  const goOn = async (): Promise<void> => {
    while (!isStopped) {
      await live((number += 1));
      await systemClock.sleep(5);
    }
  };
  return {
    run: async () => {
      await Promise.all(Array.from({ length: SESSIONS_AT_ONCE }, goOn));
    },
    stop: () => void (isStopped = true),
    callCount: () => calls,
    compare: (held) => {
      const lost = [...owned].filter((key) => held.get(key)?.machine !== self);
      assert.equal(lost.length, 0, `${lost.length} of ${owned.size} are lost`);
      const back = [...ended].filter((key) => held.has(key));
      assert.equal(back.length, 0, `${back.length} of ${ended.size} are back`);
      assert.ok(slowestMs < MAX_CALL_MS, `a call took ${slowestMs} ms`);
    },
  };
}

/** As the server itself reports, to a client without any state. */
async function heldBy(database: Database): Promise<Map<SessionKey, Binding>> {
  const plain = await database.open({ onError: () => undefined, onDisrupted: () => undefined });
  try {
    return new Map((await listOf(plain)).map((binding) => [binding.key, binding]));
  } finally {
    await plain.close();
  }
}

function of(key: SessionKey, machine: MachineId) {
  return { key, machine, origin: 'learned', ttlMs: TTL_MS } as const;
}

async function eventually(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + TIMEOUT_MS;
  while (!(await isSo())) {
    assert.ok(performance.now() < deadline, `not so after ${TIMEOUT_MS} ms: ${what}`);
    await systemClock.sleep(10);
  }
}
