/**
 * New bindings, committed: how many per second the store commits, compared with plain
 * better-sqlite3.
 */
import type { Buffer } from 'node:buffer';
import type { SessionKey } from '../../src/session.ts';
import type { SessionStore } from '../../src/store/store.ts';
import type { Bench } from './bench.ts';
import { ratioOf } from './result.ts';
import { bytesOf, openBareWriter, type BareWriter } from './store-bare.ts';
import { claim, copyOfFilled, makeKeys, openFile, performAll } from './store-sessions.ts';
import { takeTurns, type Turn } from './store-turns.ts';
import { openWrapped } from './store-wrapped.ts';

const MS_PER_SECOND = 1_000;
/** Rows per transaction where the plain ones are written together. */
const BATCH = 100;

/**
 * Claims are made by as many callers as there are connections, each of them waiting for its commit.
 * Each candidate writes into a copy of the same file. The floor is an upsert in a loop, each in its
 * own transaction; see {@link openBareWriter} for what it includes and omits.
 */
export const benchWrites: Bench = async (stage) => {
  const { effort } = stage;
  const plain = await openFile(await copyOfFilled(stage, 'claims'));
  stage.after(() => plain.close());
  const path = await copyOfFilled(stage, 'claims-resilient');
  const wrapped = await openWrapped('sqlite', () => openFile(path));
  stage.after(() => wrapped.close());
  const bare = openBareWriter(stage, await copyOfFilled(stage, 'upserts'));
  let turn = 0;
  const nextKeys = (): SessionKey[] => makeKeys(`new-${(turn += 1)}`, effort.claims);
  const claimAll = (store: SessionStore) => (keys: readonly SessionKey[]) =>
    performAll(keys, effort.connections, (key) => claim(store, key));
  const measurements = await takeTurns(
    {
      'bare upserts': () => measure(bytesOf(nextKeys()), (keys) => keys.forEach(bare.write)),
      'bare upserts, 100 a commit': () => measure(bytesOf(nextKeys()), inBatches(bare)),
      claims: () => measure(nextKeys(), claimAll(plain)),
      'claims, resilient': () => measure(nextKeys(), claimAll(wrapped)),
    },
    effort.rounds,
  );
  wrapped.reportFailures();
  return {
    title: `New bindings into SQLite with ${effort.sessionsOnDisk} sessions, ${effort.connections} at once`,
    unit: 'bindings/s',
    perUnit: 'binding',
    measurements,
    ratios: [
      ratioOf(measurements, 'claims', 'bare upserts', { atLeast: 0.7 }),
      ratioOf(measurements, 'claims, resilient', 'bare upserts', { atLeast: 0.7 }),
      ratioOf(measurements, 'claims', 'bare upserts, 100 a commit'),
    ],
  };
};

function inBatches({ writeAll }: BareWriter): (keys: readonly Buffer[]) => void {
  return (keys) => {
    for (let start = 0; start < keys.length; start += BATCH) {
      writeAll(keys.slice(start, start + BATCH));
    }
  };
}

/** Per second, with the CPU time of all threads. */
async function measure<Key>(
  keys: readonly Key[],
  write: (keys: readonly Key[]) => Promise<void> | void,
): Promise<Turn> {
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  await write(keys);
  const ms = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(cpuBefore);
  return { value: (keys.length * MS_PER_SECOND) / ms, cpuMicros: (user + system) / keys.length };
}
