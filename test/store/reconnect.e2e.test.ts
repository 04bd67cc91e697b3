/** A shared store after a suspend: its connections seem to be open, and carry nothing. */
import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { after, before, describe, test, type TestContext } from 'node:test';
import type { SessionStore } from '../../src/store/store.ts';
import { createTestClock } from '../support/clock.ts';
import { skipUnlessFound } from '../support/needed.ts';
import { listen } from '../support/pooler.ts';
import { neededForPostgres, startPostgresServer } from '../support/postgres-server.ts';
import { neededForRedis, startRedisServer } from '../support/redis-server.ts';
import { openPostgres } from './postgres-place.ts';
import { claim, eventually, openRedis, ownerOf } from './redis-place.ts';

interface Line {
  readonly port: number;
  /** Nothing passes the connections that are open now, and they stay open. */
  freeze(): void;
}

async function openLine(t: TestContext, to: number): Promise<Line> {
  const sockets = new Set<Socket>();
  const port = await listen(t, (near) => {
    const far = connect(to, '127.0.0.1');
    far.on('error', () => near.destroy());
    near.pipe(far).pipe(near);
    for (const socket of [near, far]) sockets.add(socket);
    t.after(() => far.destroy());
  });
  const freeze = (): void => {
    for (const socket of sockets) socket.unpipe().pause();
    sockets.clear();
  };
  return { port, freeze };
}

/** The clock of the store stands still: no timeout helps it. */
async function assertReconnects(store: SessionStore, line: Line): Promise<void> {
  assert.equal((await claim(store, 'session')).machine, 'a1');
  line.freeze();
  store.reconnect?.();
  await eventually('connected again', async () => (await ownerOf(store, 'none')) === 'absent');
  assert.equal(await ownerOf(store, 'session'), 'a1');
}

skipUnlessFound(neededForRedis, (program) => {
  test('Redis is connected to again, without a wait for what is dead', async (t) => {
    const server = await startRedisServer(t, { program });
    const line = await openLine(t, Number(new URL(server.url).port));
    const url = new URL(server.url);
    url.port = String(line.port);
    const store = await openRedis(t, url.href, { clock: createTestClock() });
    await assertReconnects(store, line);
  });
});

skipUnlessFound(neededForPostgres, (programs) => {
  const starting = startPostgresServer({ after }, { programs });
  // Otherwise it would count as opened by the test.
  before(async () => {
    await starting;
  });

  describe('Postgres', () => {
    test('is connected to again, without a wait for what is dead', async (t) => {
      const server = await starting;
      const line = await openLine(t, server.port);
      const url = server.url('postgres').replace(`:${server.port}/`, `:${line.port}/`);
      const store = await openPostgres(t, url, { clock: createTestClock() });
      await assertReconnects(store, line);
    });
  });
});
