/** A move or delete of a session in a shared store closes its streams on the owner. */
import assert from 'node:assert/strict';
import { after, test, type TestContext } from 'node:test';
import { openFleet } from '../support/fleet.ts';
import { skipUnlessFound } from '../support/needed.ts';
import { neededForRedis, startRedisServer } from '../support/redis-server.ts';
import {
  admin,
  KEY,
  mint,
  movedTo,
  openEvents,
  openSocket,
  releasesIn,
  startMachine,
} from './release-support.ts';

skipUnlessFound(neededForRedis, (program) => {
  const server = startRedisServer({ after }, { program });
  /** With this TTL the rows are looked up twice a second. */
  const SESSION_STORE_TTL_MS = '2000';

  async function startSharing(t: TestContext, namespace: string) {
    const { url } = await server;
    const shared = { SESSION_STORE_URL: url, SESSION_STORE_NAMESPACE: namespace };
    const env = { ...shared, SESSION_STORE_TTL_MS };
    const fleet = await openFleet(t, 'a', 'b');
    const a = await startMachine(t, fleet, 'a', { env });
    const b = await startMachine(t, fleet, 'b', { env });
    await mint(a);
    return { a, b, streams: [await openEvents(a.url), await openSocket(t, a.url)] };
  }

  test('a Machine releases a session in a shared store when its row names another owner', async (t) => {
    const { a, b, streams } = await startSharing(t, 'let-go-moved');
    assert.equal((await admin(b, 'POST', '/sessions', movedTo('b'))).status, 200);
    await Promise.all(streams.map(({ broken }) => broken));
    assert.deepEqual([a.released, b.released], [['moved'], []]);
    const fields = { session: KEY, owner: 'b', why: 'moved', streams: 2 };
    assert.deepEqual(
      releasesIn(a).map((line) => line.fields),
      [fields],
    );
  });

  test('a Machine releases a session in a shared store when another Machine deletes it', async (t) => {
    const { a, b, streams } = await startSharing(t, 'let-go-deleted');
    assert.equal((await admin(b, 'DELETE', `/sessions/${KEY}`)).status, 204);
    await Promise.all(streams.map(({ broken }) => broken));
    assert.deepEqual([a.released, b.released], [['deleted'], []]);
  });
});
