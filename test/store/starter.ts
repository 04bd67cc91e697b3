/**
 * A process that opens the store at the given path, once its standard input ends, together with
 * many others; it claims a key for its own Machine and prints the owner.
 */
import { buffer } from 'node:stream/consumers';
import { systemClock } from '../../src/clock.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import { keyOf, machineId } from '../support/ids.ts';

const [path = '', machine = ''] = process.argv.slice(2);
process.stdout.write('ready\n');
await buffer(process.stdin);
const store = await openSqliteStore({
  path,
  clock: systemClock,
  limits: { maxSessions: 1_000, maxAgeMs: 0 },
  retryCount: 3,
  retryDelayMs: 100,
  random: Math.random,
});
const claimed = await store.claim({
  key: keyOf('contested'),
  machine: machineId(machine),
  origin: 'learned',
  ttlMs: 60_000,
});
await store.close();
process.stdout.write(`${claimed.machine}\n`);
