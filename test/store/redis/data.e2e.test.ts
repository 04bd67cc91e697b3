/** The contents of the database, by the server's own clock, and the cost of each operation. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { parseSessionId, sessionKeyOf } from '../../../src/session.ts';
import { applyWrite } from '../../../src/store/rules.ts';
import type { SessionStore } from '../../../src/store/store.ts';
import { createTestClock } from '../../support/clock.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { skipUnlessFound } from '../../support/needed.ts';
import { neededForRedis, startRedisServer } from '../../support/redis-server.ts';
import { claim, eventually, openRedis, ownerOf } from '../redis-place.ts';

const A = machineId('a1');
const B = machineId('b2');
const TTL_MS = 60_000;

async function collect(store: SessionStore): Promise<string[]> {
  const owners: string[] = [];
  for await (const { machine } of store.entries()) owners.push(machine);
  return owners.sort();
}

skipUnlessFound(neededForRedis, (program) => {
  const starting = startRedisServer({ after }, { program });
  let namespaceCount = 0;
  const newNamespace = (): string => `data-${(namespaceCount += 1)}`;
  const command = async (...args: string[]): Promise<unknown> => (await starting).command(...args);
  const keysIn = async (namespace: string): Promise<string[]> =>
    ((await command('KEYS', `fly-affinity:{${namespace}}:*`)) as string[]).sort();

  describe("by the server's own clock", () => {
    test('a binding expires', async (t) => {
      const store = await openRedis(t, (await starting).url, { namespace: newNamespace() });
      await claim(store, 'short', { ttlMs: 100 });
      await claim(store, 'long');
      await eventually('absent', async () => (await ownerOf(store, 'short')) === 'absent');
      assert.equal((await claim(store, 'short', { machine: B })).machine, B);
      assert.equal(await ownerOf(store, 'long'), A);
    });

    test('a clock of this Machine that is hours off changes no expiry', async (t) => {
      const { url } = await starting;
      const namespace = newNamespace();
      const store = await openRedis(t, url, { namespace });
      const late = createTestClock(Date.now() - 5 * 3_600_000);
      const other = await openRedis(t, url, { namespace, clock: late });
      await claim(store, 'session');
      const found = await other.lookup(keyOf('session'));
      assert.ok(typeof found !== 'string');
      assert.ok(Math.abs(found.expiresAt - late.now() - TTL_MS) < 5_000);
      assert.ok(Math.abs(found.createdAt - late.now()) < 5_000);
      await other.upsert({
        ...{ key: keyOf('old'), machine: B, origin: 'learned', ttlMs: TTL_MS, generation: 2 },
        createdAt: late.now() - 1_000_000,
      });
      const old = await store.lookup(keyOf('old'));
      assert.ok(typeof old !== 'string');
      assert.ok(Math.abs(Date.now() - 1_000_000 - old.createdAt) < 5_000);
    });

    test('a cleanup removes expired bindings, and their key', async (t) => {
      const namespace = newNamespace();
      const store = await openRedis(t, (await starting).url, { namespace });
      await claim(store, 'short', { ttlMs: 1 });
      await claim(store, 'long');
      await eventually('cleaned up', async () => (await store.cleanup()) === 1);
      assert.deepEqual(
        await keysIn(namespace),
        [
          `fly-affinity:{${namespace}}:${keyOf('long')}`,
          `fly-affinity:{${namespace}}:learned`,
        ].sort(),
      );
    });
  });

  describe('in the database', () => {
    test('every key expires by itself in the end, a minute after its last binding', async (t) => {
      const namespace = newNamespace();
      const store = await openRedis(t, (await starting).url, { namespace });
      await claim(store, 'long');
      await store.upsert({
        ...{ key: keyOf('copy'), machine: B, origin: 'copied', ttlMs: 10, generation: 1 },
      });
      await store.touch(keyOf('copy'), 1_000);
      await store.rebind(keyOf('long'), A, B, 'adopted', 2 * TTL_MS);
      await claim(store, 'brief', { ttlMs: 5 });
      const keys = await keysIn(namespace);
      assert.equal(keys.length, 6);
      for (const key of keys) {
        const leftMs = Number(await command('PTTL', key));
        assert.ok(leftMs > 30_000 && leftMs <= 2 * TTL_MS + 120_000, `${key}: ${leftMs}`);
      }
      const leftOfIndex = Number(await command('PTTL', `fly-affinity:{${namespace}}:adopted`));
      const leftOfBinding = Number(
        await command('PTTL', `fly-affinity:{${namespace}}:${keyOf('long')}`),
      );
      assert.ok(leftOfIndex >= leftOfBinding - 1_000);
    });

    test('nothing of a session id is stored except its key', async (t) => {
      const namespace = newNamespace();
      const store = await openRedis(t, (await starting).url, { namespace });
      const id = parseSessionId('sk-live-0123456789');
      assert.ok(id);
      await store.claim({ key: sessionKeyOf(id), machine: A, origin: 'learned', ttlMs: TTL_MS });
      const [bindingKey = '', index = ''] = await keysIn(namespace);
      const stored = await Promise.all([
        command('GET', bindingKey),
        command('ZRANGE', index, '0', '-1'),
      ]);
      const all = JSON.stringify([bindingKey, index, stored]);
      assert.ok(all.includes(sessionKeyOf(id)));
      assert.doesNotMatch(all, /sk-live|0123456789/);
    });

    test("fleets with different namespaces do not see each other's bindings", async (t) => {
      const { url } = await starting;
      const names = ['fleet', 'fleet:learned', 'a}{b', '{', '*', 'Flotte ü'];
      const stores = await Promise.all(names.map((namespace) => openRedis(t, url, { namespace })));
      for (const [index, store] of stores.entries()) {
        assert.equal(await ownerOf(store, 'session'), 'absent');
        assert.equal(
          (await claim(store, 'session', { machine: machineId(`m${index}`) })).machine,
          `m${index}`,
        );
      }
      for (const [index, store] of stores.entries()) {
        assert.deepEqual(await collect(store), [`m${index}`]);
        assert.equal((await store.getMetrics()).total, 1);
        assert.equal(await store.delete(keyOf('session')), true);
      }
    });

    test('all keys of a namespace are in one slot of a cluster', async (t) => {
      const cluster = await startRedisServer(t, { program, options: ['--cluster-enabled', 'yes'] });
      const slots = Array.from({ length: 16_384 }, (_, slot) => String(slot));
      await cluster.command('CLUSTER', 'ADDSLOTS', ...slots);
      const isReady = async (): Promise<boolean> =>
        String(await cluster.command('CLUSTER', 'INFO')).includes('cluster_state:ok');
      await eventually('all slots are served', isReady);
      const limits = { maxSessions: 2, maxAgeMs: 0 };
      for (const namespace of ['fleet', 'x}y', 'ü{']) {
        const store = await openRedis(t, cluster.url, { namespace, limits });
        for (const name of ['a', 'b', 'c']) await claim(store, name);
        await store.cleanup();
        assert.deepEqual(await collect(store), [A, A]);
      }
    });

    test('a lowered maximum age is applied as the rules state', async (t) => {
      const clock = createTestClock();
      const options = { namespace: newNamespace(), clock, serverTime: () => clock.now() };
      const { url } = await starting;
      const before = await openRedis(t, url, options);
      const lowered = await openRedis(t, url, {
        ...{ ...options, limits: { maxSessions: 100, maxAgeMs: 50 } },
      });
      const key = keyOf('session');
      for (const kind of ['expireWithin', 'touch'] as const) {
        const found = await claim(before, 'session', { ttlMs: 200 });
        const write = { kind, key, now: clock.now(), ttlMs: 100 };
        await lowered[kind](key, write.ttlMs);
        assert.deepEqual(await lowered.lookup(key), applyWrite(write, found, 50).after, kind);
        await lowered.delete(key);
      }
    });

    test('numbers of any size round-trip unchanged', async (t) => {
      const store = await openRedis(t, (await starting).url, { namespace: newNamespace() });
      const generation = Number.MAX_SAFE_INTEGER - 1;
      const stated = { key: keyOf('old'), machine: A, origin: 'learned', ttlMs: 1e300 } as const;
      const bound = await store.upsert({ ...stated, generation, createdAt: 0 });
      assert.equal(bound.generation, generation);
      assert.ok(bound.expiresAt - Date.now() > 9 * 365 * 24 * 3_600_000);
      assert.ok(bound.createdAt < 5_000);
      assert.equal(
        (await store.rebind(keyOf('old'), A, B, 'learned', 5))?.generation,
        generation + 1,
      );
      await assert.rejects(store.upsert({ ...stated, generation: 1.5 }), { code: 'fatal' });
    });
  });

  describe('in a database that another program changed', () => {
    test('fields that a later version appends are ignored, and an invalid binding counts as absent', async (t) => {
      const namespace = newNamespace();
      const store = await openRedis(t, (await starting).url, { namespace });
      await claim(store, 'session');
      const key = `fly-affinity:{${namespace}}:${keyOf('session')}`;
      const written = String(await command('GET', key));
      await command('SET', key, `${written} more 1 2 3`);
      await store.touch(keyOf('none'), 1);
      assert.equal((await claim(store, 'session', { machine: B })).machine, A);
      for (const junk of ['', 'junk', 'stolen 1 2 3 a1', 'learned x 2 3 a1', 'learned 1 2 3 A-1']) {
        await command('SET', key, junk);
        assert.equal((await claim(store, 'session', { machine: B })).machine, B, junk);
        assert.equal((await store.getMetrics()).total, 1);
        await store.delete(keyOf('session'));
      }
    });

    test('bindings that the server itself removed are counted no longer than their lifetime', async (t) => {
      const namespace = newNamespace();
      const store = await openRedis(t, (await starting).url, { namespace });
      const prefix = `fly-affinity:{${namespace}}:`;
      await claim(store, 'short', { ttlMs: 200 });
      await claim(store, 'again');
      await command('DEL', prefix + keyOf('short'), prefix + keyOf('again'));
      assert.deepEqual(await collect(store), []);
      const adopted = {
        key: keyOf('again'),
        machine: B,
        origin: 'adopted',
        ttlMs: TTL_MS,
      } as const;
      assert.equal((await store.claim(adopted)).machine, B);
      await eventually('mended', async () => {
        await store.cleanup();
        return (await store.getMetrics()).total === 1;
      });
      assert.deepEqual(await collect(store), [B]);
    });

    test('a sorted set that the server itself removed fills again with use', async (t) => {
      const namespace = newNamespace();
      const store = await openRedis(t, (await starting).url, { namespace });
      await claim(store, 'session', { ttlMs: 30_000 });
      await command('DEL', `fly-affinity:{${namespace}}:learned`);
      assert.equal(await ownerOf(store, 'session'), A);
      assert.equal((await store.getMetrics()).total, 0);
      await store.touch(keyOf('session'), TTL_MS);
      assert.equal((await store.getMetrics()).total, 1);
      assert.deepEqual(await collect(store), [A]);
    });
  });

  const countCalls = async (name: string): Promise<number> => {
    const stats = String(await command('INFO', 'commandstats'));
    return Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
  };

  describe('round trips', () => {
    test('a session in use costs no round trip, and any other operation costs one', async (t) => {
      const clock = createTestClock();
      const store = await openRedis(t, (await starting).url, { namespace: newNamespace(), clock });
      const key = keyOf('session');
      const count = async (name: string, run: () => unknown): Promise<number> => {
        const before = await countCalls(name);
        await run();
        return (await countCalls(name)) - before;
      };
      // A lookup reads the time too, so its commands are counted.
      const reads = (run: () => unknown): Promise<number> => count('time', run);
      const cost = (run: () => unknown): Promise<number> => count('evalsha', run);
      const lookUpOften = (): void => {
        for (let count = 0; count < 1_000; count += 1) {
          assert.ok(!(store.lookup(key) instanceof Promise));
        }
      };
      assert.equal(await reads(() => store.lookup(key)), 1);
      assert.equal(await cost(() => store.lookup(keyOf('other'))), 0);
      assert.equal(await cost(() => claim(store, 'session')), 1);
      assert.equal(await cost(lookUpOften), 0);
      await clock.advance(1_000);
      assert.equal(await reads(() => store.lookup(key)), 1);
      assert.equal(await reads(lookUpOften), 0);
      assert.equal(await cost(() => store.rebind(key, A, B, 'adopted', TTL_MS)), 1);
      assert.equal(await cost(lookUpOften), 0);
      assert.equal(await cost(() => store.touch(key, TTL_MS)), 1);
      assert.equal(await cost(() => store.delete(key)), 1);
      assert.equal(await cost(() => store.getMetrics()), 1);
      assert.equal(await cost(() => store.cleanup()), 1);
    });

    test('a write that changes nothing writes nothing', async (t) => {
      const clock = createTestClock();
      const store = await openRedis(t, (await starting).url, {
        ...{ namespace: newNamespace(), clock, serverTime: () => clock.now() },
      });
      const key = keyOf('session');
      await claim(store, 'session');
      const before = [await countCalls('set'), await countCalls('zadd')];
      await claim(store, 'session', { machine: B });
      await store.touch(key, 5);
      await store.expireWithin(key, 2 * TTL_MS);
      await store.rebind(key, B, A, 'adopted', TTL_MS);
      await store.delete(key, B);
      await store.touch(keyOf('none'), TTL_MS);
      assert.deepEqual([await countCalls('set'), await countCalls('zadd')], before);
      assert.equal((await store.getMetrics()).total, 1);
    });

    test('a change by another sidecar is visible within a second, by the clock', async (t) => {
      const { url } = await starting;
      const namespace = newNamespace();
      const [one, other] = [
        await openRedis(t, url, { namespace }),
        await openRedis(t, url, { namespace }),
      ];
      await claim(one, 'session');
      assert.equal(await ownerOf(one, 'session'), A);
      await other.rebind(keyOf('session'), A, B, 'adopted', TTL_MS);
      const changedAt = performance.now();
      await eventually('seen', async () => (await ownerOf(one, 'session')) === B);
      // The cache's clock starts at the query, so a second is enough; the rest is for polling.
      assert.ok(performance.now() - changedAt < 3_000);
    });
  });

  describe('listings, cleanups and limits', () => {
    test('a listing of many bindings is paged, and contains each once', async (t) => {
      const store = await openRedis(t, (await starting).url, { namespace: newNamespace() });
      const names = Array.from({ length: 3_000 }, (_, index) => `k${index}`);
      await Promise.all(names.map((name) => claim(store, name)));
      const before = await countCalls('evalsha');
      const listed: string[] = [];
      for await (const { key } of store.entries()) listed.push(key);
      assert.equal(new Set(listed).size, 3_000);
      assert.equal(listed.length, 3_000);
      assert.ok((await countCalls('evalsha')) - before >= 6);
    });

    test('bindings that exist all the time are listed, whatever is added and removed meanwhile', async (t) => {
      const store = await openRedis(t, (await starting).url, { namespace: newNamespace() });
      const stays = Array.from({ length: 1_500 }, (_, index) => `stays-${index}`);
      const goes = Array.from({ length: 1_500 }, (_, index) => `goes-${index}`);
      await Promise.all([...stays, ...goes].map((name) => claim(store, name)));
      const listed = new Set<string>();
      let count = 0;
      for await (const { key } of store.entries()) {
        listed.add(key);
        count += 1;
        if (count % 500 !== 0) continue;
        await Promise.all(goes.splice(0, 500).map((name) => store.delete(keyOf(name))));
        await Promise.all(stays.map((name) => store.touch(keyOf(name), TTL_MS + count)));
      }
      assert.deepEqual(
        stays.filter((name) => !listed.has(keyOf(name))),
        [],
      );
    });

    test('a cleanup of many bindings is split, so that other operations run in between', async (t) => {
      const clock = createTestClock();
      const store = await openRedis(t, (await starting).url, {
        ...{ namespace: newNamespace(), clock, serverTime: () => clock.now() },
      });
      const names = Array.from({ length: 1_700 }, (_, index) => `k${index}`);
      await Promise.all(names.map((name) => claim(store, name)));
      await clock.advance(TTL_MS);
      const before = await countCalls('evalsha');
      const cleaned = store.cleanup();
      assert.equal((await claim(store, 'new')).machine, A);
      assert.equal(await cleaned, 1_700);
      assert.equal((await countCalls('evalsha')) - before, 5);
      assert.equal((await store.getMetrics()).total, 1);
    });

    test('a lowered limit is reached gradually by writes, and exactly by a cleanup', async (t) => {
      const { url } = await starting;
      const namespace = newNamespace();
      const names = Array.from({ length: 1_000 }, (_, index) => `k${index}`);
      const roomy = await openRedis(t, url, { namespace });
      await Promise.all(names.map((name) => claim(roomy, name)));
      const limits = { maxSessions: 100, maxAgeMs: 0 };
      const narrow = await openRedis(t, url, { namespace, limits });
      await claim(narrow, 'new');
      const { total } = await narrow.getMetrics();
      assert.ok(total < 1_001 && total > 900, `${total} are left after one write`);
      await narrow.cleanup();
      assert.equal((await narrow.getMetrics()).total, 100);
    });

    test('at its limit the store removes expired bindings before live ones', async (t) => {
      const clock = createTestClock();
      const store = await openRedis(t, (await starting).url, {
        ...{ namespace: newNamespace(), clock, serverTime: () => clock.now() },
        limits: { maxSessions: 4, maxAgeMs: 0 },
      });
      await claim(store, 'dead', { ttlMs: 10 });
      await store.upsert({
        ...{ key: keyOf('copy'), machine: B, origin: 'copied', ttlMs: TTL_MS, generation: 1 },
      });
      for (const name of ['x', 'y']) await claim(store, name);
      await clock.advance(10);
      await claim(store, 'z');
      assert.deepEqual(await collect(store), [A, A, A, B]);
      await claim(store, 'zz');
      assert.deepEqual(await collect(store), [A, A, A, A]);
    });
  });
});
