/**
 * A process that, once its standard input ends, claims all the sessions of a contest for its own
 * Machine, in its own order, runs cleanups meanwhile, and prints the owner of each session.
 */
import { buffer } from 'node:stream/consumers';
import { systemClock } from '../../src/clock.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import { keyOf, machineId } from '../support/ids.ts';

const AT_ONCE = 50;
const CLEANUP_EVERY = 200;

const [path = '', machine = '', sessionCount = ''] = process.argv.slice(2);
const names = Array.from({ length: Number(sessionCount) }, (_, index) => `s${index}`);
if (machine > 'm') names.reverse();
const store = await openSqliteStore({
  path,
  clock: systemClock,
  limits: { maxSessions: 1_000_000, maxAgeMs: 0 },
  retryCount: 3,
  retryDelayMs: 100,
  random: Math.random,
});
process.stdout.write('ready\n');
await buffer(process.stdin);
const winners = new Map<string, string>();
const cleanups: Promise<number>[] = [];
const queue = names.values();
const claimSome = async (): Promise<void> => {
  for (const name of queue) {
    const { machine: winner } = await store.claim({
      key: keyOf(name),
      machine: machineId(machine),
      origin: 'learned',
      ttlMs: 3_600_000,
    });
    winners.set(name, winner);
    if (winners.size % CLEANUP_EVERY === 0) cleanups.push(store.cleanup());
  }
};
await Promise.all(Array.from({ length: AT_ONCE }, claimSome));
await Promise.all(cleanups);
await store.close();
process.stdout.write(`${JSON.stringify(Object.fromEntries(winners))}\n`);
