import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { migrateSqlite } from '../../../src/store/sqlite/schema.ts';
import type { Write } from '../../../src/store/rules.ts';
import { createTransactions, type Transactions } from '../../../src/store/sqlite/transactions.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { createPlace } from '../place.ts';

const MACHINE = machineId('m1');
const NOW = Date.UTC(2026, 0, 1);

async function open(
  t: TestContext,
  maxSessions = 1_000_000,
): Promise<{ db: Database.Database; transactions: Transactions; path: string }> {
  const place = await createPlace(t);
  const path = place.path();
  const db = new Database(path);
  place.closeAfterwards(db);
  migrateSqlite(db);
  const limits = { maxSessions, maxAgeMs: 0 };
  return { db, path, transactions: createTransactions(db, { path, limits }) };
}

function claim(name: string, now = NOW, machine = MACHINE): Write {
  const key = keyOf(name);
  return { kind: 'claim', key, now, machine, origin: 'learned', ttlMs: 600_000 };
}

function claims(prefix: string, count: number, now = NOW): Write[] {
  return Array.from({ length: count }, (_, index) => claim(`${prefix}-${index}`, now + index));
}

test('on a full disk the writes that need space fail as full, and the others succeed', async (t) => {
  const { db, transactions } = await open(t);
  transactions.write({ kind: 'write', writes: claims('old', 100) });
  db.pragma(`max_page_count = ${Number(db.pragma('page_count', { simple: true }))}`);
  const leave: Write = { kind: 'delete', key: keyOf('old-0'), now: NOW, ifMachine: undefined };
  const { results } = transactions.write({
    kind: 'write',
    writes: [leave, ...claims('new', 400)],
  });
  assert.equal(results.length, 401);
  assert.equal(results[0]?.kind, 'done');
  const failures = results.flatMap((result) => (result.kind === 'failed' ? [result.failure] : []));
  assert.ok(failures.length > 0);
  assert.ok(failures.every(({ code }) => code === 'full'));
  const storedCount = 99 + results.filter(({ kind }) => kind === 'done').length - 1;
  assert.equal(transactions.count({ kind: 'count', now: NOW }).total, storedCount);
});

test("a Machine's number that was rolled back is not cached", async (t) => {
  const { db, transactions } = await open(t);
  const other = machineId('m2');
  db.exec(
    'CREATE TEMP TRIGGER fails BEFORE INSERT ON sessions BEGIN SELECT RAISE(ROLLBACK, "no"); END'.replaceAll(
      '"',
      "'",
    ),
  );
  assert.throws(() => transactions.write({ kind: 'write', writes: [claim('a', NOW, other)] }));
  db.exec('DROP TRIGGER fails');
  transactions.write({ kind: 'write', writes: [claim('b', NOW, MACHINE)] });
  transactions.write({ kind: 'write', writes: [claim('c', NOW, other)] });
  const { bindings } = transactions.page({ kind: 'page', after: undefined, now: NOW, maxRows: 10 });
  assert.deepEqual(
    new Map(bindings.map(({ key, machine }) => [key, machine])),
    new Map([
      [keyOf('b'), MACHINE],
      [keyOf('c'), other],
    ]),
  );
});

test('expired bindings are removed before live ones', async (t) => {
  const { transactions } = await open(t, 10);
  transactions.write({ kind: 'write', writes: claims('old', 5, NOW - 600_000) });
  const copies: Write[] = claims('copy', 5).map(
    (write) => ({ ...write, kind: 'claim', origin: 'copied' }) as Write,
  );
  transactions.write({ kind: 'write', writes: copies });
  const { evicted } = transactions.write({ kind: 'write', writes: claims('new', 3, NOW) });
  assert.deepEqual(evicted, []);
  assert.equal(transactions.count({ kind: 'count', now: NOW }).total, 10);
});

test('a limit that was lowered by much is reached in steps', async (t) => {
  const { db, path, transactions } = await open(t);
  transactions.write({ kind: 'write', writes: claims('old', 5_000) });
  const limits = { maxSessions: 100, maxAgeMs: 0 };
  const lowered = createTransactions(db, { path, limits });
  const { evicted } = lowered.write({ kind: 'write', writes: claims('new', 1, NOW + 5_000) });
  assert.equal(evicted.length, 2_000);
  const cleaned = lowered.cleanup({ kind: 'cleanup', now: NOW, maxRemoved: 500 });
  assert.equal(cleaned.removedCount, 500);
  assert.equal(lowered.count({ kind: 'count', now: NOW }).total, 2_501);
});

test('a session takes 100 bytes on disk at most, indexes included, also after a touch', async (t) => {
  const { db, path, transactions } = await open(t);
  const count = 20_000;
  const bytesPerSession = (): number => {
    db.pragma('wal_checkpoint(TRUNCATE)');
    return statSync(path).size / count;
  };
  for (let start = 0; start < count; start += 500) {
    transactions.write({ kind: 'write', writes: claims(`k${start}`, 500, NOW + start) });
  }
  assert.ok(bytesPerSession() <= 90, `${bytesPerSession()} bytes`);
  for (let start = count - 500; start >= 0; start -= 500) {
    const touches = claims(`k${start}`, 500).map(({ key }, index): Write => ({
      kind: 'touch',
      key,
      now: NOW + 2 * count - start + index,
      ttlMs: 600_000,
    }));
    transactions.write({ kind: 'write', writes: touches });
  }
  assert.ok(bytesPerSession() <= 100, `${bytesPerSession()} bytes`);
});

test('cleanup and eviction read the index and never the whole table', async (t) => {
  const { db } = await open(t);
  const plan = (sql: string): string =>
    db
      .prepare<[], { detail: string }>(`EXPLAIN QUERY PLAN ${sql}`)
      .all()
      .map(({ detail }) => detail)
      .join('\n');
  const removal = plan('SELECT key FROM sessions WHERE origin = 1 ORDER BY expires_at LIMIT 5');
  assert.match(removal, /USING COVERING INDEX sessions_by_expiry/);
  assert.doesNotMatch(removal, /SCAN|TEMP B-TREE/);
});
