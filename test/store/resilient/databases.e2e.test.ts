/** The contract holds for a shared store that is wrapped, for every database. */
import { randomUUID } from 'node:crypto';
import { after, type TestContext } from 'node:test';
import type { StoreHooks } from '../../../src/store/resilient/status.ts';
import { openPostgresStore } from '../../../src/store/postgres/postgres.ts';
import { openRedisStore } from '../../../src/store/redis/redis.ts';
import type { SessionStore } from '../../../src/store/store.ts';
import { skipUnlessFound } from '../../support/needed.ts';
import { neededForPostgres, startPostgresServer } from '../../support/postgres-server.ts';
import { neededForRedis, startRedisServer } from '../../support/redis-server.ts';
import { storeContract, type OpenOptions, type OpenStore } from '../contract.ts';
import { agreesWithTheRules } from '../model.ts';
import { openWrapped } from '../wrapped.ts';

/** One per test, however many stores it opens. */
const namespaces = new WeakMap<TestContext, string>();

type OpenShared = (
  options: OpenOptions & StoreHooks & { namespace: string; serverTime: () => number },
) => Promise<SessionStore>;

/** The server uses the test clock too. */
function wrapping(kind: 'redis' | 'postgres', open: OpenShared): OpenStore {
  return (t, options) => {
    const namespace = namespaces.get(t) ?? randomUUID();
    namespaces.set(t, namespace);
    const of = {
      ...{ ...options, namespace: `${namespace}-${options.place}` },
      serverTime: () => options.clock.now(),
    };
    return openWrapped(t, options, {
      kind,
      isShared: true,
      open: (hooks) => open({ ...of, ...hooks }),
    });
  };
}

skipUnlessFound(neededForRedis, (program) => {
  const starting = startRedisServer({ after }, { program });
  const open: OpenShared = async (options) =>
    openRedisStore({ url: (await starting).url, random: Math.random, ...options });
  storeContract('wrapped Redis', wrapping('redis', open), { canShare: true });
  agreesWithTheRules('wrapped Redis', wrapping('redis', open), { canShare: true });
});

skipUnlessFound(neededForPostgres, (programs) => {
  const starting = startPostgresServer({ after }, { programs });
  const open: OpenShared = async (options) =>
    openPostgresStore({ url: (await starting).url(), ...options });
  storeContract('wrapped Postgres', wrapping('postgres', open), { canShare: true });
  agreesWithTheRules('wrapped Postgres', wrapping('postgres', open), { canShare: true }, 30);
});
