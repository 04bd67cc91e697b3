/**
 * A process that opens the store at the given URL, claims a key for a Machine and prints the owner,
 * or why it failed. A separate process, because Node.js reads its trusted certificates at its
 * start.
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
