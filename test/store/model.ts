/**
 * A property of every adapter: for any writes in any order, by several Machines on the same few
 * keys, its results and its contents match {@link applyWrite}.
 */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import fc from 'fast-check';
import '../support/property-seed.ts';
import type { Binding, SessionKey } from '../../src/session.ts';
import { applyWrite, type Outcome, type Write } from '../../src/store/rules.ts';
import type { SessionStore } from '../../src/store/store.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';
import { listOf } from './every-operation.ts';
import type { Capabilities, OpenStore } from './contract.ts';

/** A write without its key and time; a creation time is relative to the time of the write. */
type Change = Write extends infer Kind
  ? Kind extends Write
    ? Omit<Kind, 'key' | 'now'>
    : never
  : never;

/** Operations that one sidecar starts at once, without awaiting any result in between. */
interface Turn {
  readonly pauseMs: number;
  readonly sidecar: number;
  readonly writes: readonly { readonly key: number; readonly change: Change }[];
}

interface World {
  readonly clock: TestClock;
  /** One store per sidecar; several only where stores can share. */
  readonly stores: readonly SessionStore[];
  readonly maxAgeMs: number;
}

const SIDECARS = 3;
/** A change by another sidecar is visible within that time. */
const MAX_UNSEEN_MS = 1_000;

export function agreesWithTheRules(
  name: string,
  open: OpenStore,
  { canShare }: Capabilities,
  numRuns = 100,
): void {
  describe(`the ${name} store agrees with the rules`, () => {
    for (const maxAgeMs of [0, 150]) {
      test(`for any writes, with a maximum age of ${maxAgeMs} ms`, async (t) => {
        const world = await openWorld(t, open, maxAgeMs, canShare ? SIDECARS : 1);
        let run = 0;
        await fc.assert(
          fc.asyncProperty(turns, (sequence) => {
            run += 1;
            return play(world, `run-${run}`, sequence);
          }),
          { numRuns },
        );
      });
    }
  });
}

async function openWorld(
  t: TestContext,
  open: OpenStore,
  maxAgeMs: number,
  storeCount: number,
): Promise<World> {
  const clock = createTestClock();
  const options = { clock, limits: { maxSessions: 1_000_000, maxAgeMs }, place: 'model' };
  const stores = await Promise.all(Array.from({ length: storeCount }, () => open(t, options)));
  return { clock, stores, maxAgeMs };
}

/** Each sequence has its own keys, so the stores need not be opened again. */
async function play(world: World, run: string, sequence: readonly Turn[]): Promise<void> {
  const { clock, stores } = world;
  const keys = [0, 1, 2].map((index) => keyOf(`${run}-${index}`));
  const held = new Map<SessionKey, Binding>();
  for (const turn of sequence) {
    await clock.advance(turn.pauseMs);
    await take(world, held, keys, turn);
  }
  for (const store of stores) {
    const listed = (await listOf(store)).filter(({ key }) => keys.includes(key));
    assert.deepEqual(sorted(listed), sorted(alive(held, clock)));
  }
  await clock.advance(MAX_UNSEEN_MS);
  for (const store of stores) {
    for (const key of keys) assert.deepEqual(await store.lookup(key), find(held, key, clock));
  }
}

async function take(
  { clock, stores, maxAgeMs }: World,
  held: Map<SessionKey, Binding>,
  keys: readonly SessionKey[],
  { sidecar, writes }: Turn,
): Promise<void> {
  const store = at(stores, sidecar % stores.length);
  const results: unknown[] = [];
  const expected: unknown[] = [];
  for (const { key: index, change } of writes) {
    const key = at(keys, index);
    const write = toWrite(change, key, clock.now());
    const outcome = applyWrite(write, held.get(key), maxAgeMs);
    if (outcome.after === undefined) held.delete(key);
    else held.set(key, outcome.after);
    results.push(startOperation(store, write), store.lookup(key));
    expected.push(resultOf(write, outcome), find(held, key, clock));
  }
  assert.deepEqual(await Promise.all(results), expected);
}

function at<Item>(items: readonly Item[], index: number): Item {
  const item = items[index];
  assert.ok(item !== undefined);
  return item;
}

function toWrite(change: Change, key: SessionKey, now: number): Write {
  if (change.kind !== 'upsert' || change.createdAt === undefined) return { ...change, key, now };
  return { ...change, key, now, createdAt: now + change.createdAt };
}

function startOperation(store: SessionStore, write: Write): Promise<unknown> {
  switch (write.kind) {
    case 'claim':
      return store.claim(write);
    case 'upsert': {
      const { createdAt, ...stated } = write;
      return store.upsert(createdAt === undefined ? stated : { ...stated, createdAt });
    }
    case 'rebind':
      return store.rebind(write.key, write.from, write.to, write.origin, write.ttlMs);
    case 'touch':
      return store.touch(write.key, write.ttlMs);
    case 'expireWithin':
      return store.expireWithin(write.key, write.ttlMs);
    case 'delete':
      return store.delete(write.key, write.ifMachine);
  }
}

function resultOf({ kind }: Write, { after, hasTakenEffect }: Outcome): unknown {
  return kind === 'claim' || kind === 'upsert' || kind === 'rebind' ? after : hasTakenEffect;
}

function find(
  held: ReadonlyMap<SessionKey, Binding>,
  key: SessionKey,
  clock: TestClock,
): Binding | 'absent' {
  const binding = held.get(key);
  return binding && binding.expiresAt > clock.now() ? binding : 'absent';
}

function alive(held: ReadonlyMap<SessionKey, Binding>, clock: TestClock): Binding[] {
  return [...held.values()].filter(({ expiresAt }) => expiresAt > clock.now());
}

function sorted(bindings: Binding[]): Binding[] {
  return bindings.sort((one, other) => (one.key < other.key ? -1 : 1));
}

const machines = fc.constantFrom(machineId('a1'), machineId('b2'), machineId('c3'));
const origins = fc.constantFrom('learned' as const, 'adopted' as const, 'copied' as const);
const ttls = fc.oneof(
  { weight: 9, arbitrary: fc.integer({ min: 0, max: 100 }) },
  { weight: 1, arbitrary: fc.constantFrom(-1, 0.5, 1.5, Number.NaN, 1e300) },
);
const generations = fc.oneof(
  { weight: 9, arbitrary: fc.integer({ min: 1, max: 4 }) },
  { weight: 1, arbitrary: fc.constant(2 ** 40) },
);
/** Relative to the time of the write; never in the future in the end. */
const creationTimes = fc.integer({ min: -200, max: 20 });

const changes: fc.Arbitrary<Change> = fc.oneof(
  fc.record({
    kind: fc.constant('claim' as const),
    ...{ machine: machines, origin: origins, ttlMs: ttls },
  }),
  fc.record({
    kind: fc.constant('upsert' as const),
    ...{ machine: machines, origin: origins, ttlMs: ttls, generation: generations },
    createdAt: fc.option(creationTimes, { nil: undefined }),
  }),
  fc.record({
    kind: fc.constant('rebind' as const),
    ...{ from: machines, to: machines, origin: origins, ttlMs: ttls },
  }),
  fc.record({
    kind: fc.constantFrom('touch' as const, 'expireWithin' as const),
    ttlMs: ttls,
  }),
  fc.record({
    kind: fc.constant('delete' as const),
    ifMachine: fc.option(machines, { nil: undefined }),
  }),
);

const turns: fc.Arbitrary<Turn[]> = fc.array(
  fc.record({
    pauseMs: fc.integer({ min: 0, max: 60 }),
    sidecar: fc.nat({ max: SIDECARS - 1 }),
    writes: fc.array(fc.record({ key: fc.nat({ max: 2 }), change: changes }), { maxLength: 5 }),
  }),
  { maxLength: 15 },
);
