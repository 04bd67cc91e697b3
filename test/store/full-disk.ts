/**
 * A process whose file is in the given directory, on a disk of two megabytes: it fills the disk
 * with sessions, frees space, continues, and exits with 0 if every check passed.
 */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import type { LocalStore } from '../../src/store/store.ts';
import { keyOf, machineId } from '../support/ids.ts';

const [directory = ''] = process.argv.slice(2);
const ballast = join(directory, 'ballast');
const smallBallast = join(directory, 'small-ballast');
const names: string[] = [];

const open = (): Promise<LocalStore> =>
  openSqliteStore({
    path: join(directory, 'store.sqlite'),
    clock: systemClock,
    limits: { maxSessions: 1_000_000, maxAgeMs: 0 },
    retryCount: 0,
    retryDelayMs: 0,
    random: Math.random,
  });

async function claim(store: LocalStore, name: string): Promise<void> {
  const machine = machineId('a1');
  await store.claim({ key: keyOf(name), machine, origin: 'learned', ttlMs: 3_600_000 });
  names.push(name);
}

async function claimUntilFull(store: LocalStore, prefix: string): Promise<void> {
  const isFull = { name: 'StoreError', code: 'full' };
  const claimOn = async (): Promise<never> => {
    for (let count = 0; ; count += 1) await claim(store, `${prefix}-${count}`);
  };
  await assert.rejects(claimOn(), isFull);
}

const BATCH = 500;

/** More than fits: some writes of the batch that does not fit succeed individually. */
async function claimMany(store: LocalStore): Promise<void> {
  const claims = Array.from({ length: 20 * BATCH }, (_, index) => claim(store, `many-${index}`));
  const results = await Promise.allSettled(claims);
  const takenCount = results.filter(({ status }) => status === 'fulfilled').length;
  // The first one is sent alone.
  assert.notEqual((takenCount - 1) % BATCH, 0, `${takenCount} were accepted`);
}

function assertAllThere(store: LocalStore): void {
  for (const name of names) assert.notEqual(typeof store.lookup(keyOf(name)), 'string', name);
  assert.equal(store.lookup(keyOf('none')), 'absent');
}

writeFileSync(ballast, Buffer.alloc(800_000));
writeFileSync(smallBallast, Buffer.alloc(100_000));
const store = await open();
await claimUntilFull(store, 'first');
await claimUntilFull(store, 'more');
assertAllThere(store);
const countWhenFull = names.length;
rmSync(smallBallast);
await claimMany(store);
assertAllThere(store);
rmSync(ballast);
await claimUntilFull(store, 'after');
assert.ok(names.length > countWhenFull, `${countWhenFull}, then ${names.length} sessions`);
assertAllThere(store);
await store.close();
const again = await open();
assertAllThere(again);
await again.close();
