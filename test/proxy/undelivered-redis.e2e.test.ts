/** What the edge could not deliver, with a store that the Machines share. */
import assert from 'node:assert/strict';
import { after, test, type TestContext } from 'node:test';
import { skipUnlessFound } from '../support/needed.ts';
import { neededForRedis, startRedisServer } from '../support/redis-server.ts';
import {
  COULD_NOT_REACH_M1,
  isToldToTryAgain,
  leave,
  open,
  type Opened,
  replayOf,
  servedBy,
} from './undelivered-support.ts';

skipUnlessFound(neededForRedis, (program) => {
  const server = startRedisServer({ after }, { program });
  let namespaceCount = 0;

  async function openShared(t: TestContext): Promise<Opened> {
    namespaceCount += 1;
    return open(t, {
      SESSION_STORE_URL: (await server).url,
      SESSION_STORE_NAMESPACE: `undelivered-${namespaceCount}`,
      SESSION_STORE_PATH: '/nowhere/store.sqlite',
    });
  }

  test('with a shared store an owner that is listed gets what the edge could not deliver', async (t) => {
    const { ask } = await openShared(t);
    assert.equal(await servedBy(ask(COULD_NOT_REACH_M1)), 'm1');
  });

  test('with a shared store an owner that can not be reached either keeps its session', async (t) => {
    const opened = await openShared(t);
    const { ask } = opened;
    await leave(opened);
    await isToldToTryAgain(ask(COULD_NOT_REACH_M1));
    assert.match(await replayOf(ask()), /^instance=m1;state=fly-affinity;timeout=1s;/);
  });
});
