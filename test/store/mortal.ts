/**
 * A process that, once its standard input ends, binds, moves and removes sessions, many at once and
 * each session's writes in sequence, until it is killed. In the given journal it records the
 * expected state when each write begins, and its acknowledgement: `begin s1 a1`, `done s1`. It
 * prints a line when it opens the file, and one for each write that is done.
 */
import { openSync, writeSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { systemClock } from '../../src/clock.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import { keyOf, machineId } from '../support/ids.ts';

const AT_ONCE = 20;
const TTL_MS = 3_600_000;
const A = machineId('a1');
const B = machineId('b2');

const [path = '', diary = '', prefix = ''] = process.argv.slice(2);
// Not to the standard output, where a line may be buffered and is lost with the process.
const descriptor = openSync(diary, 'a');
await buffer(process.stdin);
process.stdout.write('opening\n');
const store = await openSqliteStore({
  path,
  clock: systemClock,
  limits: { maxSessions: 1_000_000, maxAgeMs: 0 },
  retryCount: 3,
  retryDelayMs: 100,
  random: Math.random,
});
const note = (line: string): void => void writeSync(descriptor, `${line}\n`);
const write = async (name: string, leaves: string, perform: () => Promise<unknown>) => {
  note(`begin ${name} ${leaves}`);
  await perform();
  note(`done ${name}`);
  process.stdout.write('done\n');
};
let count = 0;
const live = async (): Promise<never> => {
  for (;;) {
    const index = (count += 1);
    const name = `${prefix}-${index}`;
    const key = keyOf(name);
    await write(name, A, () => store.claim({ key, machine: A, origin: 'learned', ttlMs: TTL_MS }));
    if (index % 2) await write(name, B, () => store.rebind(key, A, B, 'adopted', TTL_MS));
    if (index % 3) continue;
    await write(name, 'absent', () => store.delete(key));
    if (index % 5) continue;
    await write(name, A, () =>
      store.upsert({ key, machine: A, origin: 'copied', generation: 7, ttlMs: TTL_MS }),
    );
  }
};
await Promise.all(Array.from({ length: AT_ONCE }, live));
