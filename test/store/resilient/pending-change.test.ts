/** A change that is sent to a store later has the same result there as the immediate write. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Binding } from '../../../src/session.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import {
  changeAfter,
  changeToBinding,
  seenThrough,
  flushChange,
  type PendingChange,
} from '../../../src/store/resilient/pending-change.ts';
import { applyWrite, type Write } from '../../../src/store/rules.ts';
import type { Lookup, SessionStore } from '../../../src/store/store.ts';
import { createTestClock, type TestClock } from '../../support/clock.ts';
import { keyOf, machineId } from '../../support/ids.ts';

const A = machineId('a1');
const B = machineId('b2');
const C = machineId('c3');
const KEY = keyOf('session');
const TTL_MS = 60_000;

/** A write whose time is relative to the call before it. */
interface Called {
  readonly afterMs: number;
  readonly write: (now: number) => Write;
}

interface Accepted {
  readonly change: PendingChange | undefined;
  /** The current binding, as far as it is known. */
  readonly known: Binding | undefined;
}

/** Performs the writes in sequence without the store, which holds `base`. */
async function accept(
  clock: TestClock,
  base: Binding | undefined,
  sequence: readonly Called[],
): Promise<Accepted> {
  let change: PendingChange | undefined;
  for (const { afterMs, write } of sequence) {
    await clock.advance(afterMs);
    const called = write(clock.now());
    const found = bound(lookup(change, base, clock));
    const outcome = applyWrite(called, found, 0);
    change = changeAfter(change, { write: called, found, outcome }, TTL_MS);
  }
  return { change, known: bound(lookup(change, base, clock)) };
}

function lookup(
  change: PendingChange | undefined,
  base: Binding | undefined,
  clock: TestClock,
): Lookup {
  const known = base && base.expiresAt > clock.now() ? base : 'unknown';
  return change ? seenThrough(change, known, clock.now()) : known;
}

function bound(found: Lookup): Binding | undefined {
  return typeof found === 'string' ? undefined : found;
}

async function sendAll(
  store: SessionStore,
  change: PendingChange | undefined,
  now: number,
): Promise<void> {
  if (change && change.until > now) await flushChange(store, KEY, change, now, () => true);
}

function createStore(clock: TestClock): SessionStore {
  return createMemoryStore({ clock, limits: { maxSessions: 100, maxAgeMs: 0 } });
}

/** A session that left and returned keeps the stronger of its origins. */
function withoutOrigin(found: Lookup): unknown {
  return typeof found === 'string' ? found : { ...found, origin: undefined };
}

const machines = fc.constantFrom(A, B, C);
const origins = fc.constantFrom('learned' as const, 'adopted' as const, 'copied' as const);
const ttls = fc.integer({ min: 1, max: TTL_MS });

const writes: fc.Arbitrary<(now: number) => Write> = fc
  .oneof(
    fc.record({
      kind: fc.constant('claim' as const),
      machine: machines,
      origin: origins,
      ttlMs: ttls,
    }),
    fc.record({
      kind: fc.constant('upsert' as const),
      ...{ machine: machines, origin: origins, ttlMs: ttls },
      generation: fc.integer({ min: 1, max: 4 }),
      createdAt: fc.constant(undefined),
    }),
    fc.record({
      kind: fc.constant('rebind' as const),
      ...{ from: machines, to: machines, origin: origins, ttlMs: ttls },
    }),
    fc.record({ kind: fc.constantFrom('touch' as const, 'expireWithin' as const), ttlMs: ttls }),
    fc.record({
      kind: fc.constant('delete' as const),
      ifMachine: fc.option(machines, { nil: undefined }),
    }),
  )
  .map((change) => (now) => ({ ...change, key: KEY, now }));

const sequences = fc.array(
  fc.record({ afterMs: fc.integer({ min: 0, max: 15_000 }), write: writes }),
  { minLength: 1, maxLength: 8 },
);
const bases = fc.option(
  fc.record({
    machine: machines,
    origin: origins,
    generation: fc.integer({ min: 1, max: 3 }),
    ttlMs: ttls,
  }),
  { nil: undefined },
);

describe('a pending change', () => {
  test('has the same result as the writes themselves, where the binding was known', async () => {
    await fc.assert(
      fc.asyncProperty(bases, sequences, fc.boolean(), async (stated, sequence, isSentTwice) => {
        const clock = createTestClock();
        const store = createStore(clock);
        const base = stated && (await store.upsert({ ...stated, key: KEY }));
        const { change, known } = await accept(clock, base, sequence);
        await sendAll(store, change, clock.now());
        // For example because its response was lost.
        if (isSentTwice) await sendAll(store, change, clock.now());
        assert.deepEqual(withoutOrigin(await store.lookup(KEY)), withoutOrigin(known ?? 'absent'));
      }),
      { numRuns: 2_000 },
    );
  });

  test('has the same result in a store that has lost the binding', async () => {
    await fc.assert(
      fc.asyncProperty(bases, sequences, async (stated, sequence) => {
        const clock = createTestClock();
        const base = stated && (await createStore(clock).upsert({ ...stated, key: KEY }));
        const { change, known } = await accept(clock, base, sequence);
        const empty = createStore(clock);
        await sendAll(empty, change, clock.now());
        if (change?.then.kind !== 'bind') return;
        assert.deepEqual(await empty.lookup(KEY), known ?? 'absent');
      }),
      { numRuns: 1_000 },
    );
  });

  test('keeps any binding that was made elsewhere meanwhile with the same or a higher generation', async () => {
    await fc.assert(
      fc.asyncProperty(bases, sequences, async (stated, sequence) => {
        const clock = createTestClock();
        const base = stated && (await createStore(clock).upsert({ ...stated, key: KEY }));
        const { change } = await accept(clock, base, sequence);
        const store = createStore(clock);
        const elsewhere = { key: KEY, machine: machineId('d4'), origin: 'learned' } as const;
        const others = await store.upsert({ ...elsewhere, generation: 9, ttlMs: 10 * TTL_MS });
        await sendAll(store, change, clock.now());
        const isOfAnyOwner = change?.removed === 'any' || change?.then.kind === 'expire';
        if (isOfAnyOwner) return;
        const held = await store.lookup(KEY);
        assert.deepEqual(held, others);
      }),
      { numRuns: 1_000 },
    );
  });

  const touch = (now: number): Write => ({ kind: 'touch', key: KEY, now, ttlMs: TTL_MS });
  const remove = (now: number): Write => ({ kind: 'delete', key: KEY, now, ifMachine: A });

  test('of an unknown binding is the touch, or the removal, itself', async () => {
    for (const [write, left] of [
      [touch, B],
      [remove, B],
    ] as const) {
      const clock = createTestClock();
      const store = createStore(clock);
      await store.claim({ key: KEY, machine: B, origin: 'learned', ttlMs: 1_000 });
      const { change } = await accept(clock, undefined, [{ afterMs: 10, write }]);
      await sendAll(store, change, clock.now());
      const held = await store.lookup(KEY);
      assert.ok(typeof held === 'object' && held.machine === left);
      assert.equal(held.expiresAt, clock.now() + (write === touch ? TTL_MS : 990));
    }
  });

  test('of a known absent key is nothing more', async () => {
    const clock = createTestClock();
    const base = { key: KEY, machine: A, origin: 'learned', generation: 1 } as const;
    const known = { ...base, createdAt: clock.now(), expiresAt: clock.now() + TTL_MS };
    const once = await accept(clock, known, [{ afterMs: 1, write: remove }]);
    const thrice = await accept(clock, known, [
      { afterMs: 0, write: remove },
      { afterMs: 1, write: touch },
      { afterMs: 1, write: remove },
    ]);
    assert.deepEqual(thrice.change, once.change);
  });

  test('stops when something newer may have been sent', async () => {
    const clock = createTestClock();
    const store = createStore(clock);
    const base = await store.claim({ key: KEY, machine: A, origin: 'learned', ttlMs: TTL_MS });
    const bind = changeToBinding({ ...base, machine: B }, undefined, {
      ...{ removed: [A], then: { kind: 'nothing' }, isCertain: true, until: Infinity },
    });
    let checkCount = 0;
    await flushChange(store, KEY, bind, clock.now(), () => (checkCount += 1) === 1);
    assert.equal(await store.lookup(KEY), 'absent');
  });
});
