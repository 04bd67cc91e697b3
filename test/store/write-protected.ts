/**
 * A process that is not root, with its own file in the given directory: it removes its own
 * permission to write the file, and restores it. Exits with 0 if every check passed.
 */
import assert from 'node:assert/strict';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts';
import type { LocalStore } from '../../src/store/store.ts';
import { keyOf, machineId } from '../support/ids.ts';

const [directory = ''] = process.argv.slice(2);
const path = join(directory, 'store.sqlite');

const open = (): Promise<LocalStore> =>
  openSqliteStore({
    path,
    clock: systemClock,
    limits: { maxSessions: 1_000, maxAgeMs: 0 },
    retryCount: 0,
    retryDelayMs: 0,
    random: Math.random,
  });

const claim = (store: LocalStore, name: string) =>
  store.claim({
    key: keyOf(name),
    machine: machineId('a1'),
    origin: 'learned',
    ttlMs: 3_600_000,
  });

const store = await open();
chmodSync(path, 0o400);
// A process with the file open can still write to it.
await claim(store, 'old');
await store.close();
await assert.rejects(open(), (error: unknown) => {
  assert.ok(error instanceof Error && 'code' in error);
  assert.equal(error.code, 'fatal');
  assert.match(error.message, /is not writable.*SESSION_STORE_PATH/);
  assert.ok(error.message.includes(path), error.message);
  return true;
});
chmodSync(path, 0o600);
const again = await open();
assert.notEqual(typeof again.lookup(keyOf('old')), 'string');
await claim(again, 'new');
await again.close();
