/**
 * A process that opens the store at the URL given, claims a key for a Machine and prints who got it,
 * or why it could not. A process of its own, for Node.js reads at its start whose certificates it trusts.
 */
import { systemClock } from '../../src/clock.ts';
import { openRedisStore } from '../../src/store/redis/redis.ts';
import { StoreError } from '../../src/store/store.ts';
import { keyOf, machineId } from '../support/ids.ts';

const [url = ''] = process.argv.slice(2);
try {
  const store = await openRedisStore({
    ...{ url, namespace: 'tls', clock: systemClock, random: Math.random },
    limits: { maxSessions: 100, maxAgeMs: 0 },
  });
  const key = keyOf('session');
  const { machine } = await store.claim({
    ...{ key, machine: machineId('a1'), origin: 'learned', ttlMs: 60_000 },
  });
  await store.close();
  process.stdout.write(machine);
} catch (error) {
  process.stdout.write(error instanceof StoreError ? `${error.code}: ${error.message}` : 'odd');
}
