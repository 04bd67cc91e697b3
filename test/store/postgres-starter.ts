/**
 * A process that opens the store at the URL given, once its standard input ends, together with many
 * others; it claims a key for a Machine of its own and prints who got it.
 */
import { buffer } from 'node:stream/consumers';
import { systemClock } from '../../src/clock.ts';
import { openPostgresStore } from '../../src/store/postgres.ts';
import { keyOf, machineId } from '../support/ids.ts';

const [url = '', machine = ''] = process.argv.slice(2);
process.stdout.write('ready\n');
await buffer(process.stdin);
const store = await openPostgresStore({
  url,
  namespace: 'starters',
  clock: systemClock,
  limits: { maxSessions: 1_000, maxAgeMs: 0 },
});
const claimed = await store.claim({
  key: keyOf('contested'),
  machine: machineId(machine),
  origin: 'learned',
  ttlMs: 60_000,
});
await store.close();
process.stdout.write(`${claimed.machine}\n`);
