/** Conflicts between Machines end with one owner, whatever the order of the messages. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Binding, MachineId, SessionKey } from '../../src/session.ts';
import { outranks, type Claimant } from '../../src/fleet/claims.ts';
import {
  createClaimResolver,
  type ClaimResolver,
  type ClaimResolverOptions,
} from '../../src/fleet/claim-resolver.ts';
import type { Claim } from '../../src/fleet/messages.ts';
import { rendezvousWinner } from '../../src/fleet/rendezvous.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import type { Lookup, SessionStore } from '../../src/store/store.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';

const MACHINES = [machineId('aa'), machineId('bb'), machineId('cc')] as const;
const [A, B, C] = MACHINES;
const KEY = keyOf('room');
const TTL_MS = 600_000;

interface Machine {
  readonly id: MachineId;
  readonly store: SessionStore;
  readonly keeper: ClaimResolver;
  readonly released: [SessionKey, MachineId][];
  readonly conflicts: string[];
}

function createMachine(
  clock: TestClock,
  id: MachineId,
  options: Partial<ClaimResolverOptions> = {},
  looked: (found: Lookup) => Lookup | Promise<Lookup> = (found) => found,
): Machine {
  const memory = createMemoryStore({ clock, limits: { maxSessions: 100, maxAgeMs: 0 } });
  const store = { ...memory, lookup: (key: SessionKey) => looked(memory.lookup(key)) };
  const released: [SessionKey, MachineId][] = [];
  const conflicts: string[] = [];
  const keeper = createClaimResolver({
    ...{ self: id, store, clock, isReady: () => true },
    onReleased: (key, winner) => void released.push([key, winner]),
    onConflict: (outcome) => void conflicts.push(outcome),
    onError: (error) => assert.fail(String(error)),
    ...options,
  });
  return { id, store: memory, keeper, released, conflicts };
}

function own({ store, id }: Machine, key: SessionKey, claim: Claim): Promise<Binding> {
  return store.upsert({ key, machine: id, ...claim });
}

function rowOf({ store }: Machine, key = KEY): Binding {
  const found = store.lookup(key);
  if (typeof found === 'string' || found instanceof Promise) assert.fail('no row');
  return found;
}

const claimOn = (clock: TestClock, fields: Partial<Claim> = {}): Claim => ({
  ...{ generation: 1, origin: 'adopted', createdAt: clock.now(), ttlMs: TTL_MS },
  ...fields,
});

const someClaim: fc.Arbitrary<Omit<Claim, 'createdAt'> & { readonly agoMs: number }> = fc.record({
  generation: fc.integer({ min: 1, max: 3 }),
  origin: fc.constantFrom('learned' as const, 'adopted' as const),
  agoMs: fc.integer({ min: 0, max: 25_000 }),
  ttlMs: fc.integer({ min: 1_000, max: TTL_MS }),
});
/** Which Machine says it to which, and whether the response arrives. */
const someMessage = fc.record({
  from: fc.nat(2),
  to: fc.nat(2),
  isAnswered: fc.boolean(),
  isQuestion: fc.boolean(),
});

interface World {
  readonly machines: readonly Machine[];
  readonly claims: ReadonlyMap<Machine, Claim>;
}

/** What one Machine says of its claim, and what comes of the response, as `peer-link.ts` has it. */
async function deliver(
  { claims }: World,
  from: Machine,
  to: Machine,
  how: { readonly isAnswered: boolean; readonly isQuestion: boolean },
): Promise<void> {
  const claim = claims.get(from);
  if (!claim || from === to) return;
  const theirs = await (how.isQuestion
    ? to.keeper.answerQuery(KEY, from.id, claim)
    : to.keeper.onAnnouncement(KEY, from.id, claim));
  if (!how.isAnswered || typeof theirs !== 'object') return;
  const [one, other] = [
    { ...theirs, machine: to.id },
    { ...claim, machine: from.id },
  ];
  if (outranks(KEY, one, other)) await from.keeper.onAnnouncement(KEY, to.id, theirs);
}

describe('three Machines that may all own one key', () => {
  test('end with the one owner that the rule names, whom all of them know, and each loser releases once', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(...MACHINES.map(() => fc.option(someClaim, { nil: undefined }))),
        fc.array(someMessage, { maxLength: 12 }),
        fc.scheduler(),
        async (owned, more, scheduler) => {
          const clock = createTestClock();
          // What was read may be old when it arrives, as from a database elsewhere.
          const looked = (found: Lookup): Promise<Lookup> =>
            scheduler.schedule(Promise.resolve(found), 'lookup');
          const machines = MACHINES.map((id) => createMachine(clock, id, {}, looked));
          const claims = new Map<Machine, Claim>();
          for (const [i, machine] of machines.entries()) {
            const { agoMs, ...claim } = owned[i] ?? {};
            if (agoMs === undefined) continue;
            const stated = { ...claim, createdAt: clock.now() - agoMs } as Claim;
            claims.set(machine, stated);
            await own(machine, KEY, stated);
          }
          const world = { machines, claims };
          const underWay: Promise<void>[] = [];
          const send = (
            from?: Machine,
            to?: Machine,
            how = { isAnswered: true, isQuestion: false },
          ) => {
            if (!from || !to) return;
            const sent = scheduler.schedule(Promise.resolve(), 'message');
            underWay.push(sent.then(() => deliver(world, from, to, how)));
          };
          for (const { from, to, ...how } of more) send(machines[from], machines[to], how);
          // Everybody hears of every claim at least once; those above are doubles, before and after.
          for (const from of machines) for (const to of machines) send(from, to);
          await scheduler.waitFor(Promise.all(underWay));
          assertOneOwner(world, clock);
        },
      ),
      { numRuns: 500 },
    );
  });
});

function assertOneOwner({ machines, claims }: World, clock: TestClock): void {
  const claimants = [...claims].map(([{ id }, claim]): Claimant => ({ ...claim, machine: id }));
  const [winner] = claimants.sort((one, other) => (outranks(KEY, one, other) ? -1 : 1));
  if (!winner) return;
  const { machine, generation, createdAt, ttlMs } = winner;
  for (const each of machines) {
    const row = rowOf(each);
    const isWinner = each.id === machine;
    const expected = { key: KEY, machine, generation, createdAt, expiresAt: clock.now() + ttlMs };
    assert.deepEqual(row, { ...expected, origin: isWinner ? winner.origin : 'copied' });
    assert.equal(each.released.length, !isWinner && claims.has(each) ? 1 : 0);
  }
}

test('the order of claims is strict and total: nobody outranks itself, one of two wins, and no circle', () => {
  const claimant = fc.record({
    machine: fc.constantFrom(...MACHINES),
    generation: fc.integer({ min: 1, max: 2 }),
    origin: fc.constantFrom('learned' as const, 'adopted' as const),
    createdAt: fc.integer({ min: 0, max: 30_000 }),
    ttlMs: fc.constant(1),
  });
  fc.assert(
    fc.property(claimant, claimant, claimant, (one, two, three) => {
      assert.equal(outranks(KEY, one, one), false);
      if (one.machine !== two.machine) {
        assert.equal(outranks(KEY, one, two), !outranks(KEY, two, one));
      }
      if (outranks(KEY, one, two) && outranks(KEY, two, three)) {
        assert.ok(outranks(KEY, one, three));
      }
    }),
    { numRuns: 5_000 },
  );
});

describe('the loser of a conflict', () => {
  test("stores the winner's claim as it is: generation, age and remaining life", async () => {
    const clock = createTestClock();
    const machine = createMachine(clock, A);
    await own(machine, KEY, claimOn(clock, { ttlMs: 10 * TTL_MS }));
    const claim = claimOn(clock, { generation: 3, createdAt: clock.now() - 50_000, ttlMs: 7_000 });
    assert.equal(await machine.keeper.onAnnouncement(KEY, B, claim), undefined);
    const { generation, createdAt, expiresAt } = rowOf(machine);
    assert.deepEqual(
      { generation, createdAt, leftMs: expiresAt - clock.now() },
      { generation: 3, createdAt: claim.createdAt, leftMs: 7_000 },
    );
  });

  test('takes no claim for one of the future, whatever the clock of the winner says', async () => {
    const clock = createTestClock();
    const machine = createMachine(clock, A);
    await own(machine, KEY, claimOn(clock));
    await machine.keeper.onAnnouncement(
      KEY,
      B,
      claimOn(clock, { generation: 2, createdAt: clock.now() + 9e6 }),
    );
    assert.equal(rowOf(machine).createdAt, clock.now());
  });

  test('keeps its binding, and releases nothing, if the store fails', async () => {
    const clock = createTestClock();
    const errors: unknown[] = [];
    const machine = createMachine(clock, A, { onError: (error) => void errors.push(error) });
    await own(machine, KEY, claimOn(clock));
    const failing = createClaimResolver({
      ...{ self: A, clock, isReady: () => true, onError: (error) => void errors.push(error) },
      store: { ...machine.store, delete: () => Promise.reject(new Error('busy')) },
      onReleased: () => assert.fail('released'),
    });
    assert.equal(await failing.answerQuery(KEY, B, claimOn(clock, { generation: 2 })), 'unknown');
    assert.equal(errors.length, 1);
  });
});

test('a claim that is announced while the store can not tell is to be announced again', async () => {
  const clock = createTestClock();
  const machine = createMachine(clock, A, {}, () => 'unknown');
  await own(machine, KEY, claimOn(clock));
  assert.equal(
    await machine.keeper.onAnnouncement(KEY, B, claimOn(clock, { generation: 2 })),
    'unknown',
  );
  assert.equal(rowOf(machine).machine, A);
  assert.deepEqual([machine.conflicts, machine.released], [[], []]);
});

describe('a copy of what one peer owns', () => {
  test('stays when the announcement of a claim that it outranks comes late', async () => {
    const clock = createTestClock();
    const machine = createMachine(clock, A);
    await machine.keeper.onAnnouncement(KEY, B, claimOn(clock, { origin: 'learned' }));
    await machine.keeper.onAnnouncement(KEY, C, claimOn(clock));
    assert.equal(rowOf(machine).machine, B);
  });

  test('gives way to a later claim of another once no announcement can be on its way', async () => {
    const clock = createTestClock();
    const machine = createMachine(clock, A);
    await machine.keeper.onAnnouncement(KEY, B, claimOn(clock, { origin: 'learned' }));
    await clock.advance(10_000);
    await machine.keeper.onAnnouncement(KEY, C, claimOn(clock));
    assert.equal(rowOf(machine).machine, C);
  });
});

describe('a key that is served here and not claimed yet', () => {
  const winner = rendezvousWinner(KEY, [A, B]) ?? assert.fail();
  const other = winner === A ? B : A;

  test('is answered with the pending claim', async () => {
    const clock = createTestClock();
    const pending = { ...claimOn(clock), isPending: true } as const;
    const { keeper } = createMachine(clock, A, { pendingClaimOf: () => pending });
    assert.deepEqual(await keeper.answerQuery(KEY, B, undefined), pending);
  });

  test('is lost to a claim that was accepted, even one that it would outrank, as our app may refuse', async () => {
    const clock = createTestClock();
    const pending = { ...claimOn(clock), isPending: true } as const;
    await clock.advance(60_000);
    const machine = createMachine(clock, winner, { pendingClaimOf: () => pending });
    assert.equal(await machine.keeper.onAnnouncement(KEY, other, claimOn(clock)), undefined);
    assert.equal(await machine.keeper.answerQuery(KEY, other, claimOn(clock)), 'no');
    assert.equal(rowOf(machine).machine, other);
    assert.deepEqual([machine.conflicts, machine.released], [['yielded'], []]);
  });

  test('is lost to a claim that outranks it: the copy makes our own claim fail, and no session is released', async () => {
    const clock = createTestClock();
    const pending = { ...claimOn(clock), isPending: true } as const;
    const machine = createMachine(clock, other, { pendingClaimOf: () => pending });
    assert.equal(await machine.keeper.onAnnouncement(KEY, winner, claimOn(clock)), undefined);
    const ours = { key: KEY, machine: other, origin: 'adopted' as const, ttlMs: TTL_MS };
    assert.equal((await machine.store.claim(ours)).machine, winner);
    assert.deepEqual([machine.conflicts, machine.released], [['yielded'], []]);
  });

  test('is of no account once the store knows its owner', async () => {
    const clock = createTestClock();
    const machine = createMachine(clock, A, {
      pendingClaimOf: () => ({ ...claimOn(clock), isPending: true }),
    });
    await machine.store.upsert({ key: KEY, machine: C, ...claimOn(clock), origin: 'copied' });
    assert.equal(await machine.keeper.answerQuery(KEY, B, undefined), 'no');
  });
});
