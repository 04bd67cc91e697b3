/** Two Machines with a shared store concurrently take over the session of a Machine that is gone. */
import assert from 'node:assert/strict';
import { after, test, type TestContext } from 'node:test';
import { KEY } from '../fleet/support.ts';
import { skipUnlessFound } from '../support/needed.ts';
import { neededForRedis, startRedisServer } from '../support/redis-server.ts';
import { openRedis } from '../store/redis-place.ts';
import {
  assertOneOwner,
  GONE,
  storeRowOfGone,
  startTakers,
  type Taker,
} from './takeover-support.ts';

skipUnlessFound(neededForRedis, (program) => {
  const server = startRedisServer({ after }, { program });
  let namespaceCount = 0;

  async function startSharing(t: TestContext): Promise<readonly Taker[]> {
    const namespace = `takeover-${(namespaceCount += 1)}`;
    const { url } = await server;
    return startTakers(
      t,
      () => openRedis(t, url, { namespace }),
      (closeable) => t.after(() => closeable.close()),
    );
  }

  test('two Machines with a shared store end with one owner of a session that both take over', async (t) => {
    const takers = await startSharing(t);
    const [first] = takers;
    assert.ok(first);
    await storeRowOfGone(first, 'adopted');
    for (const { bindings } of takers) void bindings.claim(KEY, GONE, 'rpc');
    for (const { bindings } of takers) await bindings.stop();
    await assertOneOwner(takers, 2);
  });

  test('two Machines with a shared store end with one owner of an id that a client mints', async (t) => {
    const takers = await startSharing(t);
    for (const { bindings } of takers) void bindings.claim(KEY, undefined, 'rpc');
    for (const { bindings } of takers) await bindings.stop();
    await assertOneOwner(takers, 1);
  });
});
