/**
 * A process that opens the store at the URL given, once its standard input ends, together with many
 * others; it claims a key for a Machine of its own and prints who got it.
 */
import { buffer } from 'node:stream/consumers';
import { systemClock, type Clock } from '../../src/clock.ts';
import { openPostgresStore } from '../../src/store/postgres.ts';
import { StoreError, type SessionStore } from '../../src/store/store.ts';
import { keyOf, machineId } from '../support/ids.ts';

const [url = '', machine = ''] = process.argv.slice(2);
process.stdout.write('ready\n');
await buffer(process.stdin);
// Twenty processes on two cores may take longer than a second for a claim.
const clock: Clock = { ...systemClock, after: (ms, fn) => systemClock.after(20 * ms, fn) };
const store = await open();
const claimed = await store.claim({
  key: keyOf('contested'),
  machine: machineId(machine),
  origin: 'learned',
  ttlMs: 60_000,
});
await store.close();
process.stdout.write(`${claimed.machine}\n`);

/** Once more where that may help, as a sidecar does. */
async function open(attempts = 5): Promise<SessionStore> {
  try {
    const limits = { maxSessions: 1_000, maxAgeMs: 0 };
    return await openPostgresStore({ url, namespace: 'starters', clock, limits });
  } catch (error) {
    if (attempts === 1 || !(error instanceof StoreError) || error.code !== 'passing') throw error;
    return open(attempts - 1);
  }
}
