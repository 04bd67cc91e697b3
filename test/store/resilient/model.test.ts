/**
 * Whatever happens to the store, in any order: bindings reported to this Machine stay bound,
 * deleted ones stay absent, and in the end the store and the local copy agree.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import type { Binding, MachineId, SessionKey } from '../../../src/session.ts';
import { performWrite } from '../../../src/store/write-methods.ts';
import { applyWrite, type Outcome, type Write } from '../../../src/store/rules.ts';
import { StoreError } from '../../../src/store/store.ts';
import { createTestClock, type TestClock } from '../../support/clock.ts';
import { keyOf } from '../../support/ids.ts';
import { A, B, C, recovered, start, type World } from '../resilient-world.ts';
import {
  createScriptedStore,
  fails,
  hangs,
  late,
  losesResponses,
  works,
  type Behaviour,
  type Script,
} from '../scripted.ts';
import { passing } from '../wrapped.ts';

const NUM_RUNS = 300;
/** Bindings expire only on request. */
const TTL_MS = 24 * 3_600_000;
/** A write may take effect later than its call, and the extension shifts by the same time. */
const LATE_MS = 600_000;

/** The longest delay of a slow store. */
const MAX_LATE_MS = 3_000;
/** The time after which a shared store that may have lost data is trusted again. */
const SETTLED_MS = 15_000;

/** Keys written by this Machine alone. */
const OURS = [keyOf('ours-1'), keyOf('ours-2'), keyOf('ours-3')];
/** Keys written by other Machines too, without this one. */
const EVERYBODYS = [keyOf('all-1'), keyOf('all-2')];
const KEYS = [...OURS, ...EVERYBODYS];

type Change =
  | { readonly kind: 'claim' | 'touch' | 'delete' }
  | { readonly kind: 'rebind'; readonly isOurs: boolean }
  | { readonly kind: 'expireWithin'; readonly ttlMs: number };

type Step =
  | {
      readonly kind: 'write';
      readonly key: number;
      readonly change: Change;
      readonly isAwaited: boolean;
    }
  | { readonly kind: 'lookup'; readonly key: number }
  | { readonly kind: 'others write'; readonly key: number; readonly change: Change }
  | { readonly kind: 'tell'; readonly script: Partial<Script> }
  /** What the store holds, or, where there is a journal, what the process knows. */
  | { readonly kind: 'lose' }
  | { readonly kind: 'clean up' }
  | { readonly kind: 'wait'; readonly ms: number };

interface Kind {
  readonly name: string;
  readonly isShared: boolean;
  readonly hasJournal: boolean;
}

/** A world, and its expected bindings. */
interface Play {
  readonly clock: TestClock;
  readonly kind: Kind;
  readonly run: () => Promise<World>;
  /** Another one after a restart. */
  world: World;
  readonly bound: Map<SessionKey, Binding>;
  /** Keys whose state is unknown. */
  readonly others: Set<SessionKey>;
  readonly underWay: Promise<unknown>[];
  readonly cleanups: Promise<unknown>[];
}

const KINDS: readonly Kind[] = [
  { name: "Machine's own", isShared: false, hasJournal: false },
  { name: 'shared', isShared: true, hasJournal: false },
  { name: 'shared, after restarts with a journal,', isShared: true, hasJournal: true },
];

/** The store is found damaged after it made a change and before the change is known here. */
const DAMAGED_DURING_A_WRITE: Step[] = [
  { kind: 'write', key: 1, change: { kind: 'claim' }, isAwaited: false },
  { kind: 'lookup', key: 0 },
  { kind: 'write', key: 0, change: { kind: 'touch' }, isAwaited: false },
  { kind: 'write', key: 1, change: { kind: 'touch' }, isAwaited: false },
  { kind: 'lose' },
];

/** It is replaced, and refilled, while a write that changes nothing is on its way to the old one. */
const REPLACED_DURING_A_WRITE: Step[] = [
  { kind: 'write', key: 2, change: { kind: 'claim' }, isAwaited: false },
  { kind: 'tell', script: { reads: late(1), writes: late(1) } },
  { kind: 'lookup', key: 0 },
  { kind: 'write', key: 2, change: { kind: 'rebind', isOurs: true }, isAwaited: false },
  { kind: 'lose' },
];

for (const kind of KINDS) {
  test(`a ${kind.name} store with any faults loses nothing, restores nothing deleted, and agrees in the end`, async (t) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(steps, { maxLength: 40 }),
        fc.nat({ max: 2 }),
        (sequence, retries) => play(t, kind, retries, sequence),
      ),
      {
        numRuns: NUM_RUNS,
        examples: [
          [DAMAGED_DURING_A_WRITE, 0],
          [REPLACED_DURING_A_WRITE, 0],
        ],
      },
    );
  });
}

async function play(
  t: TestContext,
  kind: Kind,
  retryCount: number,
  sequence: readonly Step[],
): Promise<void> {
  const clock = createTestClock();
  const run = runner(t, clock, kind, retryCount);
  const of = { clock, kind, run, world: await run() };
  const none = { bound: new Map(), others: new Set(EVERYBODYS), underWay: [], cleanups: [] };
  const stage: Play = { ...of, ...none };
  for (const step of sequence) await take(stage, step);
  stage.world.scripted.setBehaviour({ opening: works, reads: works, writes: works });
  await passing(clock, Promise.all([...stage.underWay, ...stage.cleanups]));
  await recovered(stage.world);
  await endsWell(stage);
  await passing(clock, stage.world.store.close());
  await clock.advance(MAX_LATE_MS);
  assert.equal(clock.pendingCount(), 0);
}

/** Starts the sidecar, the first time or again. */
function runner(
  t: TestContext,
  clock: TestClock,
  { isShared, hasJournal }: Kind,
  retryCount: number,
): () => Promise<World> {
  const database = createScriptedStore({ clock });
  const journal = createScriptedStore({ clock });
  const openJournal = () =>
    journal.open({ onError: () => undefined, onDisrupted: () => undefined });
  const options = { clock, isShared, isRemote: isShared, ttlMs: TTL_MS, retryCount };
  const beside = hasJournal ? { beside: database, openJournal } : {};
  return () => start(t, { ...options, retryDelayMs: 100, ...beside });
}

async function take(stage: Play, step: Step): Promise<void> {
  const { clock, world } = stage;
  const { scripted, store } = world;
  switch (step.kind) {
    case 'write':
      return write(stage, step);
    case 'lookup':
      return lookUp(stage, keyAt(step.key));
    case 'others write': {
      const key = EVERYBODYS[step.key % EVERYBODYS.length];
      assert.ok(key);
      await performWrite(scripted.data, toWrite(step.change, key, clock.now(), B));
      return;
    }
    case 'tell':
      scripted.setBehaviour(step.script);
      return;
    case 'lose':
      if (stage.kind.hasJournal) await restart(stage);
      else lose(stage);
      return;
    case 'clean up':
      // It may take as long as the store does.
      stage.cleanups.push(store.cleanup().catch(() => undefined));
      return;
    case 'wait':
      await clock.advance(step.ms);
  }
}

async function write(stage: Play, step: Extract<Step, { kind: 'write' }>): Promise<void> {
  const { clock, world, bound, others } = stage;
  const key = keyAt(step.key);
  const isRebind = step.change.kind === 'rebind';
  // After a restart a binding is known once it was looked up, as callers do before they rebind it.
  if (isRebind && stage.kind.hasJournal) {
    const found = await passing(clock, Promise.resolve(world.store.lookup(key)));
    if (found === 'unknown') return;
  }
  const called = toWrite(step.change, key, clock.now(), A);
  const result = performWrite(world.store, called);
  if (others.has(key)) stage.underWay.push(result);
  else {
    const { after } = applyWrite(called, bound.get(key), 0);
    if (after === undefined) bound.delete(key);
    else bound.set(key, after);
    const checked = result.then((outcome) => assertOutcome(called, outcome, after?.machine));
    // Awaited later: a failure belongs to the property, which shrinks it.
    checked.catch(() => undefined);
    stage.underWay.push(checked);
  }
  if (step.isAwaited) await passing(clock, result);
}

/** A retry can't know whether a binding existed to be extended or removed. */
function assertOutcome({ kind }: Write, { after }: Outcome, expected: MachineId | undefined): void {
  if (kind === 'claim' || kind === 'rebind') assert.equal(after?.machine, expected);
}

function lose(stage: Play): void {
  const { world, kind } = stage;
  const { scripted } = world;
  scripted.lose();
  if (!kind.isShared) {
    scripted.hooks.onError(new StoreError('damaged', 'scripted'));
    return;
  }
  scripted.hooks.onDisrupted();
  leaveToOwners(stage);
}

/**
 * A store that lacks a binding receives it from its owner, so a released one is not ours to
 * restore.
 */
function leaveToOwners({ bound, others }: Play): void {
  for (const [key, { machine }] of bound) if (machine !== A) others.add(key);
}

/** Ends when all calls have resolved, without a chance to flush anything. */
async function restart(stage: Play): Promise<void> {
  const { clock, world } = stage;
  await passing(clock, Promise.all(stage.underWay.splice(0)));
  leaveToOwners(stage);
  world.scripted.setBehaviour({ opening: fails(), reads: fails(), writes: fails() });
  await passing(clock, world.store.close());
  stage.world = await stage.run();
}

async function lookUp({ clock, world, bound, others }: Play, key: SessionKey): Promise<void> {
  const expected = bound.get(key);
  const calledAt = clock.now();
  const found = await passing(clock, Promise.resolve(world.store.lookup(key)));
  if (others.has(key) || found === 'unknown') return;
  if (expected === undefined) assert.equal(found, 'absent');
  else if (expected.expiresAt > clock.now()) {
    assert.ok(found !== 'absent', 'a live binding is absent');
    assert.equal(found.machine, expected.machine);
  } else if (expected.expiresAt + LATE_MS < calledAt) assert.equal(found, 'absent');
}

async function endsWell({ clock, world, kind, bound, others }: Play): Promise<void> {
  const { scripted, store } = world;
  await clock.advance(SETTLED_MS);
  const now = clock.now();
  const held = await scripted.held();
  for (const key of OURS.filter((each) => !others.has(each))) {
    const expected = bound.get(key);
    const found = held.get(key);
    if (expected === undefined) assert.equal(found, undefined, 'a deleted binding is back');
    else if (expected.expiresAt > now) {
      assert.ok(found, 'a binding is lost');
      assert.equal(found.machine, expected.machine);
      if (kind.hasJournal) continue;
      assert.ok(found.expiresAt >= expected.expiresAt, 'it lives shorter');
      assert.ok(found.expiresAt <= expected.expiresAt + LATE_MS, 'it lives longer');
    }
  }
  for (const key of KEYS) {
    const found = await passing(clock, Promise.resolve(store.lookup(key)));
    assert.deepEqual(found, held.get(key) ?? 'absent');
  }
  scripted.setBehaviour({ reads: fails() });
  for (let count = 0; count < 3; count += 1) await store.lookup(keyOf('other'));
  for (const key of KEYS) {
    const known = await store.lookup(key);
    if (known !== 'unknown') assert.deepEqual(known, held.get(key));
  }
}

function keyAt(index: number): SessionKey {
  const key = KEYS[index % KEYS.length];
  assert.ok(key);
  return key;
}

function toWrite(change: Change, key: SessionKey, now: number, self: typeof A): Write {
  switch (change.kind) {
    case 'claim':
      return { kind: 'claim', key, now, machine: self, origin: 'learned', ttlMs: TTL_MS };
    case 'touch':
      return { kind: 'touch', key, now, ttlMs: TTL_MS };
    case 'delete':
      return { kind: 'delete', key, now, ifMachine: self };
    case 'expireWithin':
      return { kind: 'expireWithin', key, now, ttlMs: change.ttlMs };
    case 'rebind': {
      const [from, to] = change.isOurs ? [C, self] : [self, C];
      return { kind: 'rebind', key, now, from, to, origin: 'adopted', ttlMs: TTL_MS };
    }
  }
}

const changes: fc.Arbitrary<Change> = fc.oneof(
  { weight: 4, arbitrary: fc.constant({ kind: 'claim' as const }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'touch' as const }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'delete' as const }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('rebind' as const), isOurs: fc.boolean() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('expireWithin' as const),
      ttlMs: fc.integer({ min: 1, max: 20_000 }),
    }),
  },
);

/** Created for each run: some count their calls. */
const behaviours: fc.Arbitrary<Behaviour> = fc.oneof(
  fc.constant(works),
  fc.constant(hangs),
  fc
    .tuple(fc.constantFrom('passing', 'full', 'fatal' as const), fc.integer({ min: 1, max: 6 }))
    .map(([code, times]) => fails(code, times)),
  fc.constant(null).map(() => fails()),
  fc.integer({ min: 1, max: 4 }).map((times) => losesResponses(times)),
  fc.integer({ min: 1, max: MAX_LATE_MS }).map((ms) => late(ms)),
);

const scripts: fc.Arbitrary<Partial<Script>> = fc.oneof(
  fc.record({ writes: behaviours }),
  fc.record({ reads: behaviours }),
  fc.record({ reads: behaviours, writes: behaviours }),
  fc.record({ opening: behaviours, closing: behaviours }),
);

const indexes = fc.nat({ max: KEYS.length - 1 });
const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      ...{ key: indexes, change: changes, isAwaited: fc.boolean() },
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('lookup' as const), key: indexes }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('others write' as const),
      key: indexes,
      change: changes,
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('tell' as const), script: scripts }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'lose' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'clean up' as const }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('wait' as const),
      ms: fc.integer({ min: 0, max: 4_000 }),
    }),
  },
);
