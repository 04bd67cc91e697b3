/**
 * A Redis server that is absent, unresponsive, locked, full of clients or not ready: why the store
 * does not open.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import { systemClock } from '../../../src/clock.ts';
import { openRedisStore, type RedisStoreOptions } from '../../../src/store/redis/redis.ts';
import { StoreError } from '../../../src/store/store.ts';
import { createTestClock } from '../../support/clock.ts';
import { skipUnlessFound } from '../../support/needed.ts';
import { freePort } from '../../support/free-port.ts';
import { neededForRedis, startRedisServer } from '../../support/redis-server.ts';
import { untilNothingIsLeft, watchResources } from '../../support/resources.ts';
import { claim, eventually, openRedis, openWatched, ownerOf } from '../redis-place.ts';

const isPassing = { name: 'StoreError', code: 'passing' };

/** Why the store does not open. */
async function openError(
  url: string,
  options: Partial<RedisStoreOptions> = {},
): Promise<StoreError> {
  const opening = openRedisStore({
    ...{ url, namespace: 'test', clock: systemClock, random: Math.random },
    limits: { maxSessions: 100, maxAgeMs: 0 },
    ...options,
  });
  const outcome = await opening.catch((error: unknown) => error);
  assert.ok(outcome instanceof StoreError, 'it has opened');
  return outcome;
}

skipUnlessFound(neededForRedis, (program) => {
  describe('the Redis store does not open without a Redis server that responds', () => {
    test('where no server listens, and reports that immediately', async (t) => {
      const port = await freePort();
      const watch = watchResources(t);
      const error = await openError(`redis://me:secret@localhost:${port}/1`);
      assert.equal(error.code, 'passing');
      assert.match(error.message, new RegExp(`redis://localhost:${port}/1 cannot be used`));
      assert.match(error.message, /ECONNREFUSED.*check that it runs/);
      await untilNothingIsLeft(watch);
    });

    test('when the name has no address', async () => {
      const error = await openError('redis://no-such-host.invalid');
      assert.equal(error.code, 'passing');
    });

    test('when a server accepts the connection and never responds, and leaves nothing open', async (t) => {
      const watch = watchResources(t);
      const unresponsive = createServer().listen(0, '127.0.0.1');
      await once(unresponsive, 'listening');
      t.after(() => void unresponsive.close());
      const { port } = unresponsive.address() as AddressInfo;
      const clock = createTestClock();
      for (const url of [`redis://127.0.0.1:${port}`, `redis://:secret@127.0.0.1:${port}`]) {
        const connected = once(unresponsive, 'connection');
        const rejected = openError(url, { clock });
        const [socket] = (await connected) as [Socket];
        const closed = once(socket.resume(), 'close');
        await clock.advance(2_000);
        const error = await rejected;
        assert.equal(error.code, 'passing');
        assert.match(error.message, /no response within 2000 ms/);
        assert.equal(clock.pendingCount(), 0);
        await closed;
      }
      unresponsive.close();
      await untilNothingIsLeft(watch);
    });

    test('when no server accepts the connection, and leaves nothing open', async (t) => {
      const server = await startRedisServer(t, { program, options: ['--tcp-backlog', '1'] });
      server.freeze();
      // The kernel accepts two on its behalf; it does not respond to a third.
      const [first, second] = [connect(server.port), connect(server.port)];
      await Promise.all([once(first, 'connect'), once(second, 'connect')]);
      const watch = watchResources(t);
      const clock = createTestClock();
      const rejected = openError(server.url, { clock });
      await clock.advance(1_999);
      assert.equal(watch.sockets.size, 1);
      await clock.advance(1);
      assert.match((await rejected).message, /no response within 2000 ms/);
      // The client library would ignore it for two seconds.
      await clock.advance(0);
      assert.equal(watch.sockets.size, 0);
      for (const socket of [first, second]) socket.destroy();
    });

    test('when the server uses another protocol', async (t) => {
      const http = createServer((socket) => {
        socket.resume().end('HTTP/1.1 400 Bad Request\r\n\r\n');
      }).listen(0, '127.0.0.1');
      await once(http, 'listening');
      t.after(() => void http.close());
      const error = await openError(`redis://127.0.0.1:${(http.address() as AddressInfo).port}`);
      assert.equal(error.code, 'passing');
    });
  });

  describe('the Redis store does not open while the server rejects it', () => {
    test('with a wrong password, without one, and with an unexpected one', async (t) => {
      const locked = await startRedisServer(t, { program, password: 'sesame' });
      const open = await startRedisServer(t, { program });
      const cases: [url: string, why: RegExp][] = [
        [`redis://:secret@127.0.0.1:${locked.port}`, /WRONGPASS/],
        [`redis://nobody:secret@127.0.0.1:${locked.port}`, /WRONGPASS/],
        [`redis://127.0.0.1:${locked.port}`, /NOAUTH/],
        [`redis://:secret@127.0.0.1:${open.port}`, /without any password configured/],
      ];
      for (const [url, why] of cases) {
        const error = await openError(url);
        assert.equal(error.code, 'fatal', error.message);
        assert.match(error.message, why);
        assert.match(error.message, /SESSION_STORE_URL/);
        assert.doesNotMatch(error.message, /secret/);
      }
      const store = await openRedis(t, locked.url);
      assert.equal((await claim(store, 'session')).machine, 'a1');
    });

    test('when the server quotes the password, which is not in the error', async (t) => {
      const odd = await startRedisServer(t, {
        program,
        options: ['--rename-command', 'AUTH', 'X'],
      });
      const error = await openError(`redis://:secret@127.0.0.1:${odd.port}`);
      assert.equal(error.code, 'fatal');
      assert.match(error.message, /unknown command/);
      assert.doesNotMatch(`${error.message} ${String(error.cause)}`, /secret/);
    });

    test('without the permission to run scripts', async (t) => {
      const server = await startRedisServer(t, { program });
      await server.command('ACL', 'SETUSER', 'guest', 'on', '>guest', '~*', '+@all', '-@scripting');
      const error = await openError(`redis://guest:guest@127.0.0.1:${server.port}`);
      assert.equal(error.code, 'fatal');
      assert.match(error.message, /NOPERM/);
    });

    test('while the server has reached its maximum number of clients', async (t) => {
      const server = await startRedisServer(t, { program, options: ['--maxclients', '1'] });
      const only = await openRedis(t, server.url);
      const error = await openError(server.url);
      assert.equal(error.code, 'passing');
      assert.match(error.message, /max number of clients/);
      await only.close();
      await eventually('room', async () => {
        const opening = openRedis(t, server.url).then(() => true);
        return opening.catch(() => false);
      });
    });

    test('while the server loads its data, and opens afterwards', async (t) => {
      const server = await startRedisServer(t, { program });
      const before = await openWatched(t, server.url);
      await claim(before.store, 'session');
      const populate = "for i = 1, 3000 do redis.call('SET', 'other' .. i, 'x') end";
      await server.command('EVAL', populate, '0');
      await server.command('SAVE');
      await server.kill();
      // Half a millisecond for each key, with clients served in between.
      await server.start(
        '--key-load-delay',
        '500',
        '--loading-process-events-interval-bytes',
        '1024',
      );
      const error = await openError(server.url);
      assert.equal(error.code, 'passing');
      assert.match(error.message, /LOADING/);
      await assert.rejects(claim(before.store, 'new'), isPassing);
      await eventually('loaded', async () => (await ownerOf(before.store, 'none')) === 'absent');
      assert.equal(before.disruptions(), 1);
      const store = await openRedis(t, server.url);
      assert.equal(await ownerOf(store, 'session'), 'a1');
    });
  });
});
