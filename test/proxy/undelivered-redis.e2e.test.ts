/** Requests that the edge could not deliver, with a shared store. */
import assert from 'node:assert/strict';
import { after, test, type TestContext } from 'node:test';
import { skipUnlessFound } from '../support/needed.ts';
import { neededForRedis, startRedisServer } from '../support/redis-server.ts';
import {
  COULD_NOT_REACH_M1,
  assertRetryLater,
  stopM1,
  startTwo,
  type TwoMachines,
  replayOf,
  servedBy,
} from './undelivered-support.ts';

skipUnlessFound(neededForRedis, (program) => {
  const server = startRedisServer({ after }, { program });
  let namespaceCount = 0;

  async function openShared(t: TestContext): Promise<TwoMachines> {
    namespaceCount += 1;
    return startTwo(t, {
      SESSION_STORE_URL: (await server).url,
      SESSION_STORE_NAMESPACE: `undelivered-${namespaceCount}`,
      SESSION_STORE_PATH: '/nowhere/store.sqlite',
    });
  }

  test('with a shared store a listed owner receives a request that the edge could not deliver', async (t) => {
    const { send } = await openShared(t);
    assert.equal(await servedBy(send(COULD_NOT_REACH_M1)), 'm1');
  });

  test('with a shared store an unreachable owner keeps its session', async (t) => {
    const machines = await openShared(t);
    const { send } = machines;
    await stopM1(machines);
    await assertRetryLater(send(COULD_NOT_REACH_M1));
    assert.match(await replayOf(send()), /^instance=m1;state=fly-affinity;timeout=1s;/);
  });
});
