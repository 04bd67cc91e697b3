import { after, type TestContext } from 'node:test';
import { openRedisStore } from '../../../src/store/redis/redis.ts';
import { skipUnlessFound } from '../../support/needed.ts';
import { neededForRedis, startRedisServer } from '../../support/redis-server.ts';
import { storeContract, type OpenStore } from '../contract.ts';
import { agreesWithTheRules } from '../model.ts';

skipUnlessFound(neededForRedis, (program) => {
  const server = startRedisServer({ after }, { program });
  const namespaces = new WeakMap<TestContext, string>();
  let testCount = 0;

  /** One namespace per test and place, however many stores it opens; the clock is the test's. */
  const open: OpenStore = async (t, { clock, limits, place }) => {
    const namespace = namespaces.get(t) ?? `test-${(testCount += 1)}`;
    namespaces.set(t, namespace);
    const store = await openRedisStore({
      url: (await server).url,
      namespace: `${namespace}-${place}`,
      clock,
      limits,
      random: Math.random,
      serverTime: () => clock.now(),
    });
    t.after(() => store.close());
    return store;
  };

  storeContract('Redis', open, { canShare: true });
  agreesWithTheRules('Redis', open, { canShare: true });
});
