/**
 * A process that opens the store at the given URL, once its standard input ends, together with many
 * others; it claims a key for its own Machine and prints the owner.
 */
import { buffer } from 'node:stream/consumers';
import { systemClock } from '../../src/clock.ts';
import { openPostgresStore } from '../../src/store/postgres/postgres.ts';
import { StoreError } from '../../src/store/store.ts';
import { keyOf, machineId } from '../support/ids.ts';

/** Twenty processes on two cores may exceed the time limits of a store. */
const ATTEMPTS = 20;

const [url = '', machine = ''] = process.argv.slice(2);
process.stdout.write('ready\n');
await buffer(process.stdin);
// The store's own timers keep no process alive.
const alive = setInterval(() => undefined, 1_000);
const limits = { maxSessions: 1_000, maxAgeMs: 0 };
const store = await withRetries(() =>
  openPostgresStore({ url, namespace: 'starters', clock: systemClock, limits }),
);
const claimed = await withRetries(() =>
  store.claim({
    key: keyOf('contested'),
    machine: machineId(machine),
    origin: 'learned',
    ttlMs: 60_000,
  }),
);
await store.close();
clearInterval(alive);
process.stdout.write(`${claimed.machine}\n`);

/** Retries where that may help, as a sidecar does. */
async function withRetries<Result>(work: () => Promise<Result>): Promise<Result> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      const isPassing = error instanceof StoreError && error.code === 'passing';
      if (!isPassing || attempt === ATTEMPTS) throw error;
    }
  }
}
