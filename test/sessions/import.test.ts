/** Importing into a store: what is replaced, what stays, and how far it came. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Binding } from '../../src/session.ts';
import { formatEnd, formatSession, HEAD } from '../../src/sessions/document.ts';
import {
  importSessions,
  MAX_NAMED_BAD_LINES,
  type ImportParts,
  type ImportResult,
  mergeSessions,
  NOTHING_MERGED,
} from '../../src/sessions/import.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import { StoreError, type LocalStore, type SessionStore } from '../../src/store/store.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';

const A = machineId('a1');
const B = machineId('b2');
const KEY = keyOf('session');
const HOUR_MS = 3_600_000;

function setUp(): { clock: TestClock; store: LocalStore; live: Binding } {
  const clock = createTestClock();
  const store = createMemoryStore({ clock, limits: { maxSessions: 1_000, maxAgeMs: 0 } });
  const createdAt = clock.now() - HOUR_MS;
  const expiresAt = clock.now() + HOUR_MS;
  const live = { key: KEY, machine: A, origin: 'learned', generation: 3 } as const;
  return { clock, store, live: { ...live, createdAt, expiresAt } };
}

function documentOf(...bindings: readonly Binding[]): string {
  const lines = bindings.map((binding) => `${formatSession(binding)}\n`);
  return `${HEAD}\n${lines.join('')}${formatEnd(bindings.length)}\n`;
}

async function* pieces(...texts: readonly string[]): AsyncGenerator<Buffer> {
  await Promise.resolve();
  for (const text of texts) yield Buffer.from(text);
}

function importInto(
  store: Pick<SessionStore, 'lookup' | 'upsert'>,
  clock: TestClock,
  text: string,
  changes: Partial<ImportParts> = {},
): Promise<ImportResult> {
  const parts = { store, clock, random: () => 0, isDryRun: false };
  return importSessions(pieces(text), {
    merge: (bindings) => mergeSessions(bindings, parts),
    batchSize: 10,
    ...changes,
  });
}

/** An exported session, an existing one, and the stored result. */
const CASES: readonly (readonly [
  name: string,
  /** Relative to the live one. */
  stated: Partial<Binding>,
  outcome: keyof typeof NOTHING_MERGED,
  /** Relative to the live one. */
  after: Partial<Binding>,
])[] = [
  ['the same', {}, 'alreadyThere', {}],
  ['one that ends earlier', { expiresAt: -1 }, 'alreadyThere', {}],
  ['one that ends later', { expiresAt: HOUR_MS }, 'imported', { expiresAt: HOUR_MS }],
  ['one that ends later by the round trip to a database', { expiresAt: 999 }, 'alreadyThere', {}],
  ['an earlier generation of another owner', { generation: 2, machine: B }, 'conflicts', {}],
  ['an earlier generation that ends later', { generation: 2, expiresAt: 5 }, 'alreadyThere', {}],
  ['the same generation of another owner', { machine: B, expiresAt: HOUR_MS }, 'conflicts', {}],
  ['a later generation', { generation: 4 }, 'imported', { generation: 4 }],
  [
    'a later generation of another owner, that ends earlier',
    { generation: 4, machine: B, expiresAt: -1 },
    'imported',
    { generation: 4, machine: B },
  ],
  ['a weaker origin', { origin: 'copied' }, 'alreadyThere', {}],
];

for (const [name, stated, outcome, after] of CASES) {
  test(`import: ${name} is ${outcome}`, async () => {
    const { clock, store, live } = setUp();
    const against = (changes: Partial<Binding>): Binding => {
      return { ...live, ...changes, expiresAt: live.expiresAt + (changes.expiresAt ?? 0) };
    };
    await store.upsert({ ...live, ttlMs: HOUR_MS });
    const { summary } = await importInto(store, clock, documentOf(against(stated)));
    assert.equal(summary[outcome], 1);
    assert.deepEqual(store.lookup(KEY), against(after));
  });
}

test('import: a stronger origin counts, and the later end stays', async () => {
  const { clock, store, live } = setUp();
  await store.upsert({ ...live, origin: 'copied', ttlMs: HOUR_MS });
  const stated = { ...live, expiresAt: live.expiresAt - 1_000 };
  const { summary } = await importInto(store, clock, documentOf(stated));
  assert.equal(summary.imported, 1);
  assert.deepEqual(store.lookup(KEY), live);
});

test('import: a session of another Machine stays its own, though a write would replace it', async () => {
  const { clock, store, live } = setUp();
  await store.upsert({ ...live, origin: 'copied', ttlMs: HOUR_MS });
  const { summary } = await importInto(store, clock, documentOf({ ...live, machine: B }));
  assert.equal(summary.conflicts, 1);
  assert.deepEqual(store.lookup(KEY), { ...live, origin: 'copied' });
});

test('import: a session keeps its age, owner, origin and generation', async () => {
  const { clock, store, live } = setUp();
  await importInto(store, clock, documentOf(live));
  assert.deepEqual(store.lookup(KEY), live);
});

test('import: expired sessions are skipped and counted', async () => {
  const { clock, store, live } = setUp();
  const { summary } = await importInto(
    store,
    clock,
    documentOf({ ...live, expiresAt: clock.now() }),
  );
  assert.deepEqual(summary, { ...NOTHING_MERGED, expired: 1, bad: 0, badLines: [] });
  assert.equal(store.lookup(KEY), 'absent');
});

test('import: of one session that occurs twice in a row, the later end stays', async () => {
  const { clock, store, live } = setUp();
  const copy = { ...live, origin: 'copied', expiresAt: live.expiresAt - HOUR_MS / 2 } as const;
  const { summary } = await importInto(store, clock, documentOf(live, copy) + documentOf(copy));
  assert.equal(summary.imported, 1);
  assert.equal(summary.alreadyThere, 2);
  assert.deepEqual(store.lookup(KEY), live);
});

const soon = fc.integer({ min: -2, max: 3 }).map((hours) => hours * HOUR_MS);
const someBinding = fc.record({
  key: fc.constantFrom(keyOf('1'), keyOf('2')),
  machine: fc.constantFrom(A, B),
  origin: fc.constantFrom('learned', 'adopted', 'copied'),
  generation: fc.integer({ min: 1, max: 3 }),
  createdAt: soon,
  expiresAt: soon,
});

test('import: no live session is shortened or withdrawn, and a second import changes nothing', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(someBinding), fc.array(someBinding), async (before, stated) => {
      const { clock, store } = setUp();
      const at = (binding: Binding): Binding => ({
        ...binding,
        createdAt: clock.now() + binding.createdAt,
        expiresAt: clock.now() + binding.expiresAt,
      });
      for (const binding of before) {
        await store.upsert({ ...at(binding), ttlMs: Math.max(binding.expiresAt, 1) });
      }
      const there = [keyOf('1'), keyOf('2')].map((key) => store.lookup(key));
      const text = documentOf(...stated.map(at));
      await importInto(store, clock, text);
      const after = there.map((was, index) => {
        const is = store.lookup(keyOf(String(index + 1)));
        if (typeof was === 'string') return is;
        assert.ok(typeof is !== 'string');
        assert.ok(is.generation >= was.generation && is.expiresAt >= was.expiresAt);
        assert.ok(is.generation > was.generation || is.machine === was.machine);
        return is;
      });
      const again = await importInto(store, clock, text);
      assert.equal(again.summary.imported, 0);
      assert.deepEqual(
        [keyOf('1'), keyOf('2')].map((key) => store.lookup(key)),
        after,
      );
    }),
  );
});

test('import: a limited number of bad lines are named, and all of them are counted', async () => {
  const { clock, store, live } = setUp();
  const lines = `${'x\n'.repeat(150)}${formatSession(live)}\n`;
  const text = `${HEAD}\n${lines}${formatEnd(151)}\n`;
  const { summary, ended } = await importInto(store, clock, text);
  assert.equal(ended.kind, 'complete');
  assert.equal(summary.bad, 150);
  assert.equal(summary.imported, 1);
  assert.equal(summary.badLines.length, MAX_NAMED_BAD_LINES);
  assert.deepEqual(summary.badLines[0], { line: 2, problem: 'is not a JSON object' });
});

test('import: sessions before the end of a truncated export are not lost', async () => {
  const { clock, store, live } = setUp();
  const { summary, ended } = await importInto(store, clock, `${HEAD}\n${formatSession(live)}\n`);
  assert.equal(summary.imported, 1);
  assert.ok(ended.kind === 'broken' && ended.line === 2);
  assert.deepEqual(store.lookup(KEY), live);
});

test('import: a source that fails halfway ends it, and the error names the line', async () => {
  const { clock, store, live } = setUp();
  const merge: ImportParts['merge'] = (bindings) =>
    mergeSessions(bindings, { store, clock, random: () => 0, isDryRun: false });
  const lost = new Error('lost');
  async function* source(): AsyncGenerator<Buffer> {
    yield* pieces(`${HEAD}\n${formatSession(live)}\n`);
    throw lost;
  }
  const { ended } = await importSessions(source(), { merge, batchSize: 1 });
  assert.deepEqual(ended, { kind: 'failed', line: 1, cause: lost });
});

test('import: a store that fails halfway ends it, and the error names the line', async () => {
  const { clock, store, live } = setUp();
  const others = Array.from({ length: 4 }, (_, i) => ({ ...live, key: keyOf(`other-${i}`) }));
  const full = new StoreError('full', 'no room');
  let count = 0;
  const failing = {
    lookup: (key: Binding['key']) => store.lookup(key),
    upsert: (binding: Parameters<SessionStore['upsert']>[0]) =>
      (count += 1) > 2 ? Promise.reject(full) : store.upsert(binding),
  };
  const text = documentOf(...others, live);
  const { ended, summary } = await importInto(failing, clock, text, { batchSize: 2 });
  assert.deepEqual(ended, { kind: 'failed', line: 4, cause: full });
  assert.equal(summary.imported, 2);
  const again = await importInto(store, clock, text, { batchSize: 2 });
  assert.deepEqual(again.summary, {
    ...NOTHING_MERGED,
    imported: 3,
    alreadyThere: 2,
    bad: 0,
    badLines: [],
  });
});

test('import: a transient failure is awaited', async () => {
  const { clock, store, live } = setUp();
  const failures = [() => 'unknown' as const, () => 'unknown' as const];
  const lookup: SessionStore['lookup'] = (key) => failures.shift()?.() ?? store.lookup(key);
  const { summary } = await importInto({ ...store, lookup }, clock, documentOf(live));
  assert.equal(summary.imported, 1);
  assert.equal(failures.length, 0);
});

test('import: at most one batch is in progress, and no more is read ahead', async () => {
  const { clock, store, live } = setUp();
  let underWay = 0;
  let most = 0;
  const slow = {
    lookup: (key: Binding['key']) => store.lookup(key),
    upsert: async (binding: Parameters<SessionStore['upsert']>[0]) => {
      most = Math.max(most, (underWay += 1));
      await Promise.resolve();
      underWay -= 1;
      return store.upsert(binding);
    },
  };
  const bindings = Array.from({ length: 95 }, (_, i) => ({ ...live, key: keyOf(`many-${i}`) }));
  const progress: number[] = [];
  const onProgress = (count: number): void => void progress.push(count);
  const { summary } = await importInto(slow, clock, documentOf(...bindings), { onProgress });
  assert.equal(summary.imported, 95);
  assert.equal(most, 10);
  assert.deepEqual(progress, [10, 20, 30, 40, 50, 60, 70, 80, 90, 95]);
});
