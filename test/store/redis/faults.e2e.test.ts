/** A Redis server that is dead, frozen, full, demoted or flushed: the behavior of a sidecar. */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { systemClock } from '../../../src/clock.ts';
import { StoreError, type SessionStore } from '../../../src/store/store.ts';
import { createTestClock } from '../../support/clock.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { skipUnlessFound } from '../../support/needed.ts';
import { neededForRedis, startRedisServer } from '../../support/redis-server.ts';
import { untilNothingIsLeft, watchResources } from '../../support/resources.ts';
import { claim, eventually, openGate, openRedis, openWatched, ownerOf } from '../redis-place.ts';

const A = machineId('a1');
const B = machineId('b2');
const isPassing = { name: 'StoreError', code: 'passing' };

skipUnlessFound(neededForRedis, (program) => {
  describe('a server that was killed', () => {
    test('fails operations in progress and new ones immediately, and is reported once', async (t) => {
      const server = await startRedisServer(t, { program });
      const { store, errors, disruptions } = await openWatched(t, server.url);
      await claim(store, 'session');
      server.freeze();
      const rejected = ['one', 'two'].map((name) => assert.rejects(claim(store, name), isPassing));
      const lookup = store.lookup(keyOf('other'));
      await server.kill();
      await Promise.all(rejected);
      assert.equal(await lookup, 'unknown');
      const startedAt = performance.now();
      await assert.rejects(claim(store, 'three'), { ...isPassing, message: /no connection/ });
      await assert.rejects(store.cleanup(), isPassing);
      await assert.rejects(store.getMetrics(), isPassing);
      await assert.rejects(store.entries()[Symbol.asyncIterator]().next(), isPassing);
      assert.equal(await store.lookup(keyOf('other')), 'unknown');
      assert.ok(performance.now() - startedAt < 1_000);
      assert.equal(disruptions(), 1);
      assert.equal(errors.length, 1);
      assert.match(errors[0] ?? '', /^passing: the connection failed/);
    });

    for (const [what, isDurable, owner] of [
      ['has all acknowledged writes', true, A],
      ['has lost all data', false, B],
    ] as const) {
      test(`and restarted: it ${what}`, async (t) => {
        const server = await startRedisServer(t, { program, isDurable });
        const { store } = await openWatched(t, server.url);
        const names = Array.from({ length: 300 }, (_, index) => `k${index}`);
        await Promise.all(names.map((name) => claim(store, name)));
        await server.kill();
        await server.start();
        await eventually('back', async () => (await ownerOf(store, 'none')) === 'absent');
        const claimed = await Promise.all(names.map((name) => claim(store, name, { machine: B })));
        assert.deepEqual(new Set(claimed.map(({ machine }) => machine)), new Set([owner]));
      });
    }

    test('repeatedly under load: no acknowledged binding is lost or changes its owner', async (t) => {
      const server = await startRedisServer(t, { program, isDurable: true });
      const stores = [await openRedis(t, server.url), await openRedis(t, server.url)];
      const acknowledged = new Map<string, string>();
      let count = 0;
      const load = async (store: SessionStore, until: () => boolean): Promise<void> => {
        while (!until()) {
          const name = `k${(count += 1)}`;
          const machine = count % 2 ? A : B;
          const bound = await claim(store, name, { machine }).catch(() => undefined);
          if (bound) acknowledged.set(name, bound.machine);
          else await systemClock.sleep(2);
        }
      };
      for (let round = 0; round < 5; round += 1) {
        let isOver = false;
        const loads = stores.flatMap((store) => [1, 2, 3].map(() => load(store, () => isOver)));
        const size = acknowledged.size;
        await eventually('some bindings', () => acknowledged.size > size + 50);
        await server.kill();
        isOver = true;
        await Promise.all(loads);
        await server.start();
        for (const store of stores) {
          await eventually('back', async () => (await ownerOf(store, 'none')) === 'absent');
        }
      }
      const [one, other] = stores;
      assert.ok(one && other);
      for (const [name, machine] of acknowledged) {
        assert.equal(await ownerOf(one, name), machine);
        assert.equal(await ownerOf(other, name), machine);
      }
    });
  });

  describe('a server that closed its connections', () => {
    test('is reconnected within five seconds after hours of downtime, because the backoff is limited', async (t) => {
      const server = await startRedisServer(t, { program });
      const gate = await openGate(t, server.port);
      const clock = createTestClock();
      const { store, errors, disruptions } = await openWatched(t, gate.url, {
        clock,
        random: () => 1,
      });
      await claim(store, 'session');
      gate.leadTo(undefined);
      for (const socket of gate.connections) socket.destroy();
      const pauses: number[] = [];
      for (let seen = gate.count(); pauses.length < 12; seen = gate.count()) {
        await eventually('a pause', () => clock.pendingCount() === 1);
        let waited = 0;
        while (gate.count() === seen) {
          await clock.advance(50);
          waited += 50;
          if (clock.pendingCount() === 0 || waited % 5_000 === 0) {
            await eventually('a dial', () => gate.count() > seen);
          }
        }
        pauses.push(waited);
      }
      assert.deepEqual(pauses, [
        ...[50, 100, 200, 400, 800, 1_600, 3_200],
        ...[5_000, 5_000, 5_000, 5_000, 5_000],
      ]);
      assert.equal(await store.lookup(keyOf('other')), 'unknown');
      gate.leadTo(server.port);
      await eventually('a pause', () => clock.pendingCount() === 1);
      await clock.advance(5_000);
      await eventually('back', async () => (await ownerOf(store, 'session')) === A);
      assert.equal(disruptions(), 1);
      assert.equal(errors.length, 1);
    });

    test('and requires another password now fails with an error for the operator', async (t) => {
      const server = await startRedisServer(t, { program });
      const letIn = (password: string): Promise<unknown> =>
        server.command('ACL', 'SETUSER', 'app', 'resetpass', `>${password}`);
      await server.command('ACL', 'SETUSER', 'app', 'on', '~*', '+@all');
      await letIn('old');
      const { store, errors } = await openWatched(t, `redis://app:old@127.0.0.1:${server.port}`);
      const outcome = (): Promise<string> =>
        claim(store, 'session').then(
          () => 'claimed',
          (error: unknown) => (error instanceof StoreError ? error.code : 'odd'),
        );
      assert.equal(await outcome(), 'claimed');
      await letIn('new');
      await server.command('CLIENT', 'KILL', 'USER', 'app');
      await eventually('fatal', async () => (await outcome()) === 'fatal');
      assert.equal(errors.length, 1);
      await letIn('old');
      await eventually('let in again', async () => (await outcome()) === 'claimed');
    });
  });

  describe('a frozen server', () => {
    test('delays a read by half a second and a write by one, and late replies go to no other caller', async (t) => {
      const server = await startRedisServer(t, { program });
      const clock = createTestClock();
      const { store, errors, disruptions } = await openWatched(t, server.url, { clock });
      const names = Array.from({ length: 100 }, (_, index) => `k${index}`);
      for (const name of names) await claim(store, name, { machine: name === 'k7' ? B : A });
      await clock.advance(1_000);
      server.freeze();
      const reads = names.map((name) => ownerOf(store, name));
      const writes = names.map((name) => claim(store, `new-${name}`));
      let settled = 0;
      for (const write of writes) void write.catch(() => (settled += 1));
      await clock.advance(500);
      assert.deepEqual(new Set(await Promise.all(reads)), new Set(['unknown']));
      await clock.advance(499);
      assert.equal(settled, 0);
      await clock.advance(1);
      for (const write of writes) {
        await assert.rejects(write, { ...isPassing, message: /no response within 1000 ms/ });
      }
      server.thaw();
      const owners = await Promise.all(names.map((name) => ownerOf(store, name)));
      assert.deepEqual(
        owners,
        names.map((name) => (name === 'k7' ? B : A)),
      );
      // A command sent in time that only received its reply too late.
      assert.equal(await ownerOf(store, 'new-k1'), A);
      assert.equal(disruptions(), 0);
      assert.equal(errors.length, 1);
      assert.match(errors[0] ?? '', /store lookup failed|no response within 500 ms/);
    });

    test('is not timed out when its reply arrived in time, however late this process reads it', async (t) => {
      const server = await startRedisServer(t, { program });
      const { store, errors } = await openWatched(t, server.url, { clock: systemClock });
      const writes = Array.from({ length: 10 }, (_, index) => claim(store, `k${index}`));
      const reads = Array.from({ length: 10 }, (_, index) => ownerOf(store, `k${index}`));
      // The library writes in the check phase of this turn of the loop.
      await new Promise((resolve) => setImmediate(resolve));
      const busyUntil = performance.now() + 1_200;
      while (performance.now() < busyUntil);
      assert.deepEqual(new Set(await Promise.all(reads)), new Set([A]));
      await Promise.all(writes);
      assert.deepEqual(errors, []);
    });

    test('is disconnected after five seconds, and is used again when it resumes', async (t) => {
      const server = await startRedisServer(t, { program });
      const clock = createTestClock();
      const { store, errors, disruptions } = await openWatched(t, server.url, { clock });
      await claim(store, 'session');
      server.freeze();
      const rejected = assert.rejects(claim(store, 'new'), isPassing);
      await clock.advance(1_000);
      await rejected;
      await clock.advance(3_999);
      assert.equal(disruptions(), 0);
      await clock.advance(1);
      assert.equal(disruptions(), 1);
      assert.match(errors.join(), /no response within 5000 ms/);
      await assert.rejects(claim(store, 'new'), { ...isPassing, message: /no connection/ });
      server.thaw();
      await eventually('back', async () => {
        await clock.advance(5_000);
        return (await ownerOf(store, 'session')) === A;
      });
    });

    test('is not disconnected while any reply arrives', async (t) => {
      const server = await startRedisServer(t, { program });
      const clock = createTestClock();
      const { store, disruptions } = await openWatched(t, server.url, { clock });
      for (let round = 0; round < 3; round += 1) {
        server.freeze();
        const rejected = assert.rejects(claim(store, 'slow'), isPassing);
        await clock.advance(1_000);
        await rejected;
        server.thaw();
        await claim(store, 'fast');
        await clock.advance(4_000);
      }
      assert.equal(disruptions(), 0);
    });

    test('receives five thousand calls at most, and is disconnected although more calls arrive and fail immediately', async (t) => {
      const server = await startRedisServer(t, { program });
      const { store, disruptions } = await openWatched(t, server.url, { clock: systemClock });
      const isTooMuch = { ...isPassing, message: /queue is full/ };
      server.freeze();
      const calls = Array.from({ length: 5_000 }, (_, index) => claim(store, `k${index}`));
      await assert.rejects(claim(store, 'beyond'), isTooMuch);
      assert.equal(await store.lookup(keyOf('beyond')), 'unknown');
      const failures = await Promise.allSettled(calls);
      assert.ok(failures.every(({ status }) => status === 'rejected'));
      // These calls failed, and their replies are still missing.
      await assert.rejects(claim(store, 'beyond'), isTooMuch);
      await eventually('given up', async () => {
        await assert.rejects(claim(store, 'beyond'), isPassing);
        return disruptions() === 1;
      });
      server.thaw();
      await eventually('back', async () => (await ownerOf(store, 'none')) === 'absent');
      assert.equal(await ownerOf(store, 'beyond'), 'absent');
      assert.equal((await claim(store, 'beyond')).machine, A);
    });
  });

  describe('a server that rejects writes', () => {
    test('because it is full still serves reads, and deletes and cleanups free memory', async (t) => {
      const server = await startRedisServer(t, { program });
      const { store, disruptions } = await openWatched(t, server.url);
      await claim(store, 'session');
      await claim(store, 'ended');
      await server.command('CONFIG', 'SET', 'maxmemory', '1');
      const isFull = { name: 'StoreError', code: 'full', message: /^store claim failed: OOM/ };
      await assert.rejects(claim(store, 'new'), isFull);
      await assert.rejects(claim(store, 'new'), isFull);
      assert.equal(await ownerOf(store, 'session'), A);
      assert.equal(await ownerOf(store, 'new'), 'absent');
      assert.equal(await store.delete(keyOf('ended')), true);
      assert.equal(await store.cleanup(), 0);
      assert.equal((await store.getMetrics()).total, 1);
      const again = await openRedis(t, server.url);
      assert.equal(await ownerOf(again, 'session'), A);
      await server.command('CONFIG', 'SET', 'maxmemory', '0');
      assert.equal((await claim(store, 'new')).machine, A);
      assert.equal(disruptions(), 0);
    });

    test('because it cannot write to its disk still serves reads', async (t) => {
      const options = ['--dbfilename', 'taken'];
      const server = await startRedisServer(t, { program, options });
      const { store } = await openWatched(t, server.url);
      await claim(store, 'session');
      await mkdir(join(server.directory, 'taken'));
      await server.command('CONFIG', 'SET', 'save', '3600 1');
      await server.command('BGSAVE');
      await eventually('failed', async () =>
        String(await server.command('INFO', 'persistence')).includes('last_bgsave_status:err'),
      );
      await assert.rejects(claim(store, 'new'), { code: 'full', message: /MISCONF/ });
      assert.equal(await ownerOf(store, 'session'), A);
      assert.equal(await ownerOf(store, 'new'), 'absent');
    });

    test('because it is a replica still serves reads, and the store looks for another server', async (t) => {
      const options = ['--repl-diskless-sync-delay', '0'];
      const [first, second] = [
        await startRedisServer(t, { program, options }),
        await startRedisServer(t, { program, options }),
      ];
      const gate = await openGate(t, first.port);
      const clock = createTestClock();
      const { store, errors, disruptions } = await openWatched(t, gate.url, { clock });
      await claim(store, 'session');
      await second.command('REPLICAOF', '127.0.0.1', String(first.port));
      const isFollowing = async (): Promise<boolean> =>
        String(await second.command('INFO', 'replication')).includes('master_link_status:up');
      await eventually('a replica', isFollowing);

      await second.command('REPLICAOF', 'NO', 'ONE');
      await first.command('REPLICAOF', '127.0.0.1', String(second.port));
      gate.leadTo(second.port);
      await assert.rejects(claim(store, 'new'), { ...isPassing, message: /READONLY/ });
      assert.equal(disruptions(), 1);
      assert.deepEqual(errors, []);
      await eventually('at the new primary', async () => {
        await clock.advance(100);
        return claim(store, 'new').then(
          () => true,
          () => false,
        );
      });
      assert.equal(await ownerOf(store, 'session'), A);

      await second.command('REPLICAOF', '127.0.0.1', String(first.port));
      const countBefore = gate.count();
      for (let round = 0; round < 20; round += 1) {
        await assert.rejects(claim(store, `more-${round}`), isPassing);
        assert.equal(await ownerOf(store, 'session'), A);
        await clock.advance(100);
      }
      assert.ok(gate.count() - countBefore <= 1, 'it dials for every write');
    });

    test('because its keys have another type reports that', async (t) => {
      const server = await startRedisServer(t, { program });
      const { store, errors } = await openWatched(t, server.url);
      await server.command('RPUSH', `fly-affinity:{test}:${keyOf('session')}`, 'x');
      await assert.rejects(claim(store, 'session'), { code: 'fatal', message: /WRONGTYPE/ });
      assert.equal(await ownerOf(store, 'session'), 'unknown');
      assert.equal(await ownerOf(store, 'session'), 'unknown');
      assert.equal(errors.length, 1);
      assert.match(errors[0] ?? '', /^fatal: store lookup failed: WRONGTYPE/);
      assert.equal(await ownerOf(store, 'none'), 'absent');
      assert.equal(await ownerOf(store, 'session'), 'unknown');
      assert.equal(errors.length, 2);
      assert.equal((await claim(store, 'other')).machine, A);
    });
  });

  describe('a server that was instructed', () => {
    test('to forget all scripts receives them again, and calls keep their order', async (t) => {
      const server = await startRedisServer(t, { program });
      const { store } = await openWatched(t, server.url);
      for (let round = 0; round < 20; round += 1) {
        const flushed = server.command('SCRIPT', 'FLUSH');
        for (let count = 0; count < 10; count += 1) {
          const name = `k${round}-${count}`;
          const replies = await Promise.all([
            claim(store, name).then(({ machine }) => machine),
            ownerOf(store, name),
            store.delete(keyOf(name)),
            ownerOf(store, name),
            claim(store, name, { machine: B }).then(({ machine }) => machine),
            ownerOf(store, name),
          ]);
          assert.deepEqual(replies, [A, A, true, 'absent', B, B]);
        }
        await flushed;
      }
      await server.command('SCRIPT', 'FLUSH');
      assert.equal((await store.getMetrics()).total, 200);
      await server.command('SCRIPT', 'FLUSH');
      let count = 0;
      for await (const { machine } of store.entries()) count += Number(machine === B);
      assert.equal(count, 200);
    });

    test('to drop its clients is connected to again', async (t) => {
      const server = await startRedisServer(t, { program });
      const { store, disruptions } = await openWatched(t, server.url);
      await claim(store, 'session');
      await server.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
      await eventually('noticed', () => disruptions() === 1);
      await eventually('back', async () => (await ownerOf(store, 'none')) === 'absent');
      assert.equal(await ownerOf(store, 'session'), A);
      assert.equal(disruptions(), 1);
    });
  });

  describe('a close', () => {
    test('leaves nothing open, whatever the state of the connection', async (t) => {
      const server = await startRedisServer(t, { program });
      const gate = await openGate(t, server.port);
      const watch = watchResources(t);
      const openOne = () => openRedis(t, gate.url, { clock: watch.clock });
      const [idle, busy, listing, away] = await Promise.all([
        openOne(),
        openOne(),
        openOne(),
        openOne(),
      ]);
      await Promise.all(['a', 'b', 'c'].map((name) => claim(idle, name)));
      await idle.close();

      const writes = [claim(busy, 'one'), claim(busy, 'two', { machine: B })];
      const lookup = busy.lookup(keyOf('a'));
      await Promise.all([busy.close(), busy.close()]);
      assert.deepEqual(
        (await Promise.all(writes)).map(({ machine }) => machine),
        [A, B],
      );
      assert.ok(await lookup);

      const pages = listing.entries()[Symbol.asyncIterator]();
      const page = pages.next().catch((error: unknown) => error);
      await listing.close();
      const outcome = await page;
      if (outcome instanceof StoreError) assert.equal(outcome.code, 'closed');

      gate.leadTo(undefined);
      for (const socket of gate.connections) socket.destroy();
      await eventually('down', async () => (await away.lookup(keyOf('x'))) === 'unknown');
      await away.close();
      assert.equal(await away.lookup(keyOf('a')), 'unknown');
      await assert.rejects(claim(away, 'a'), { code: 'closed' });
      await untilNothingIsLeft(watch);
    });

    test('aborts a connection attempt without a response', async (t) => {
      const server = await startRedisServer(t, { program });
      const gate = await openGate(t, server.port);
      const watch = watchResources(t);
      const { store, disruptions } = await openWatched(t, gate.url, { clock: watch.clock });
      const count = gate.count();
      server.freeze();
      for (const socket of gate.connections) socket.destroy();
      await eventually('lost', () => disruptions() === 1);
      await eventually('dialing', () => gate.count() > count);
      const startedAt = performance.now();
      await store.close();
      assert.ok(performance.now() - startedAt < 1_000);
      for (const socket of gate.connections) socket.destroy();
      await untilNothingIsLeft(watch);
    });

    test('waits for a write in progress up to its time limit, and no longer', async (t) => {
      const server = await startRedisServer(t, { program });
      const clock = createTestClock();
      const store = await openRedis(t, server.url, { clock });
      server.freeze();
      const rejected = assert.rejects(claim(store, 'session'), isPassing);
      let isClosed = false;
      const closed = store.close().then(() => (isClosed = true));
      await clock.advance(999);
      assert.equal(isClosed, false);
      await clock.advance(1);
      await closed;
      await rejected;
      assert.equal(clock.pendingCount(), 0);
    });
  });
});
