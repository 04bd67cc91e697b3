/**
 * A process whose file is in the directory given, on a disk of two megabytes: it fills the disk with
 * sessions, makes room, goes on, and ends with 0 if all was as it should be.
 */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { openSqliteStore } from '../../src/store/sqlite.ts';
import { StoreError, type LocalStore } from '../../src/store/store.ts';
import { keyOf, machineId } from '../support/ids.ts';

const [directory = ''] = process.argv.slice(2);
const ballast = join(directory, 'ballast');
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

async function claimUntilFull(store: LocalStore, prefix: string): Promise<StoreError> {
  for (let count = 0; ; count += 1) {
    const name = `${prefix}-${count}`;
    const claimed = await store
      .claim({ key: keyOf(name), machine: machineId('a1'), origin: 'learned', ttlMs: 3_600_000 })
      .catch((error: unknown) => error as StoreError);
    if (claimed instanceof StoreError) return claimed;
    names.push(name);
  }
}

function assertAllThere(store: LocalStore): void {
  for (const name of names) assert.notEqual(typeof store.lookup(keyOf(name)), 'string', name);
  assert.equal(store.lookup(keyOf('none')), 'absent');
}

writeFileSync(ballast, Buffer.alloc(800_000));
const store = await open();
assert.equal((await claimUntilFull(store, 'first')).code, 'full');
assert.equal((await claimUntilFull(store, 'more')).code, 'full');
assertAllThere(store);
const countWhenFull = names.length;
rmSync(ballast);
assert.equal((await claimUntilFull(store, 'after')).code, 'full');
assert.ok(names.length > countWhenFull, `${countWhenFull}, then ${names.length} sessions`);
assertAllThere(store);
await store.close();
const again = await open();
assertAllThere(again);
await again.close();
