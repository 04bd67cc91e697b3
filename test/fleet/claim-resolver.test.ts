/** Claim conflicts between Machines resolve to one owner, in any order of messages. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Binding, MachineId, SessionKey } from '../../src/session.ts';
import {
  outranks,
  type Claimant,
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
  readonly claimResolver: ClaimResolver;
  readonly released: [SessionKey, MachineId][];
  readonly conflicts: string[];
}

function createMachine(
  clock: TestClock,
  id: MachineId,
  options: Partial<ClaimResolverOptions> = {},
  onLookup: (found: Lookup) => Lookup | Promise<Lookup> = (found) => found,
): Machine {
  const memory = createMemoryStore({ clock, limits: { maxSessions: 100, maxAgeMs: 0 } });
  const store = { ...memory, lookup: (key: SessionKey) => onLookup(memory.lookup(key)) };
  const released: [SessionKey, MachineId][] = [];
  const conflicts: string[] = [];
  const claimResolver = createClaimResolver({
    ...{ self: id, store, clock, isReady: () => true },
    onReleased: (key, winner) => void released.push([key, winner]),
    onConflict: (outcome) => void conflicts.push(outcome),
    onError: (error) => assert.fail(String(error)),
    ...options,
  });
  return { id, store: memory, claimResolver, released, conflicts };
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
/** Sender and receiver of a message, and whether the response arrives. */
const someMessage = fc.record({
  from: fc.nat(2),
  to: fc.nat(2),
  hasResponse: fc.boolean(),
  isQuestion: fc.boolean(),
});

interface World {
  readonly machines: readonly Machine[];
  readonly claims: ReadonlyMap<Machine, Claim>;
}

/** Delivers one Machine's claim and handles the response in the way `peer-link.ts` does. */
async function deliver(
  { claims }: World,
  from: Machine,
  to: Machine,
  how: { readonly hasResponse: boolean; readonly isQuestion: boolean },
): Promise<void> {
  const claim = claims.get(from);
  if (!claim || from === to) return;
  const theirs = await (how.isQuestion
    ? to.claimResolver.onQuery(KEY, from.id, claim)
    : to.claimResolver.onAnnouncement(KEY, from.id, claim));
  if (!how.hasResponse || typeof theirs !== 'object') return;
  const [one, other] = [
    { ...theirs, machine: to.id },
    { ...claim, machine: from.id },
  ];
  if (outranks(KEY, one, other)) await from.claimResolver.onAnnouncement(KEY, to.id, theirs);
}

describe('three Machines that may all own one key', () => {
  test('resolve to the owner that the ranking names; all three know it, and each loser releases once', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(...MACHINES.map(() => fc.option(someClaim, { nil: undefined }))),
        fc.array(someMessage, { maxLength: 12 }),
        fc.scheduler(),
        async (owned, more, scheduler) => {
          const clock = createTestClock();
          // A lookup result may be outdated when it arrives, for example from a database in another
          // region.
          const onLookup = (found: Lookup): Promise<Lookup> =>
            scheduler.schedule(Promise.resolve(found), 'lookup');
          const machines = MACHINES.map((id) => createMachine(clock, id, {}, onLookup));
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
            how = { hasResponse: true, isQuestion: false },
          ) => {
            if (!from || !to) return;
            const sent = scheduler.schedule(Promise.resolve(), 'message');
            underWay.push(sent.then(() => deliver(world, from, to, how)));
          };
          for (const { from, to, ...how } of more) send(machines[from], machines[to], how);
          // Every Machine receives every claim at least once; the messages above are duplicates,
          // before and after.
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

test('the order of claims is strict and total: no claim outranks itself, one of two wins, no cycles', () => {
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
    const ours = claimOn(clock, { ttlMs: 10 * TTL_MS });
    await own(machine, KEY, ours);
    const claim = claimOn(clock, { generation: 3, createdAt: clock.now() - 50_000, ttlMs: 7_000 });
    assert.deepEqual(await machine.claimResolver.onAnnouncement(KEY, B, claim), ours);
    const { generation, createdAt, expiresAt } = rowOf(machine);
    assert.deepEqual(
      { generation, createdAt, leftMs: expiresAt - clock.now() },
      { generation: 3, createdAt: claim.createdAt, leftMs: 7_000 },
    );
  });

  test("stores no claim with a creation time in the future, whatever the winner's clock reports", async () => {
    const clock = createTestClock();
    const machine = createMachine(clock, A);
    await own(machine, KEY, claimOn(clock));
    await machine.claimResolver.onAnnouncement(
      KEY,
      B,
      claimOn(clock, { generation: 2, createdAt: clock.now() + 9e6 }),
    );
    assert.equal(rowOf(machine).createdAt, clock.now());
  });

  test('keeps its binding and releases nothing if the store fails', async () => {
    const clock = createTestClock();
    const errors: unknown[] = [];
    const machine = createMachine(clock, A, { onError: (error) => void errors.push(error) });
    await own(machine, KEY, claimOn(clock));
    const failing = createClaimResolver({
      ...{ self: A, clock, isReady: () => true, onError: (error) => void errors.push(error) },
      store: { ...machine.store, delete: () => Promise.reject(new Error('busy')) },
      onReleased: () => assert.fail('released'),
    });
    assert.equal(await failing.onQuery(KEY, B, claimOn(clock, { generation: 2 })), 'unknown');
    assert.equal(errors.length, 1);
  });
});

test('a claim announced while the store returns unknown must be announced again', async () => {
  const clock = createTestClock();
  const machine = createMachine(clock, A, {}, () => 'unknown');
  await own(machine, KEY, claimOn(clock));
  assert.equal(
    await machine.claimResolver.onAnnouncement(KEY, B, claimOn(clock, { generation: 2 })),
    'unknown',
  );
  assert.equal(rowOf(machine).machine, A);
  assert.deepEqual([machine.conflicts, machine.released], [[], []]);
});

describe('a conflict that other Machines may have heard of in another order', () => {
  const POORER = { createdAt: 0, generation: 1 };

  test('is announced again by the winner, once for each claimant in ten seconds', async () => {
    const clock = createTestClock();
    const contested: [SessionKey, number][] = [];
    const { claimResolver, ...machine } = createMachine(clock, A, {
      onContested: ({ key }, ttlMs) => void contested.push([key, ttlMs]),
    });
    await own({ ...machine, claimResolver }, KEY, claimOn(clock, { generation: 2 }));
    const announce = (from: MachineId): unknown =>
      claimResolver.onAnnouncement(KEY, from, claimOn(clock, POORER));
    await announce(B);
    assert.deepEqual(contested, [[KEY, TTL_MS]]);
    await announce(B);
    assert.equal(contested.length, 1);
    await clock.advance(10_000);
    await announce(B);
    await announce(C);
    assert.equal(contested.length, 3);
  });

  test('is answered by the loser with the claim that it has released, within ten seconds, to the winner', async () => {
    const clock = createTestClock();
    const machine = createMachine(clock, A);
    const ours = claimOn(clock, { generation: 2 });
    await own(machine, KEY, ours);
    const winner = claimOn(clock, { generation: 3 });
    const { claimResolver } = machine;
    assert.deepEqual(await claimResolver.onAnnouncement(KEY, B, winner), ours);
    assert.deepEqual(await claimResolver.onAnnouncement(KEY, B, winner), ours);
    assert.equal(await claimResolver.onQuery(KEY, B, winner), 'no');
    assert.equal(await claimResolver.onAnnouncement(KEY, C, claimOn(clock, POORER)), undefined);
    await clock.advance(10_000);
    assert.equal(await claimResolver.onAnnouncement(KEY, B, winner), undefined);
  });
});

describe('a copy of a binding that a peer owns', () => {
  test('is kept when the announcement of a lower-ranked claim arrives late', async () => {
    const clock = createTestClock();
    const machine = createMachine(clock, A);
    await machine.claimResolver.onAnnouncement(KEY, B, claimOn(clock, { origin: 'learned' }));
    await machine.claimResolver.onAnnouncement(KEY, C, claimOn(clock));
    assert.equal(rowOf(machine).machine, B);
  });

  test("is replaced by another Machine's later claim once no older announcement can be in flight", async () => {
    const clock = createTestClock();
    const machine = createMachine(clock, A);
    await machine.claimResolver.onAnnouncement(KEY, B, claimOn(clock, { origin: 'learned' }));
    await clock.advance(10_000);
    await machine.claimResolver.onAnnouncement(KEY, C, claimOn(clock));
    assert.equal(rowOf(machine).machine, C);
  });
});

describe('a key that is served here and not claimed yet', () => {
  const winner = rendezvousWinner(KEY, [A, B]) ?? assert.fail();
  const other = winner === A ? B : A;

  test('is reported as a pending claim in the query response', async () => {
    const clock = createTestClock();
    const pending = { ...claimOn(clock), isPending: true } as const;
    const { claimResolver } = createMachine(clock, A, {
      pendingClaimOf: () => pending,
    });
    assert.deepEqual(await claimResolver.onQuery(KEY, B, undefined), pending);
  });

  test('loses to an accepted claim, even one that it would outrank, because our app may still reject the id', async () => {
    const clock = createTestClock();
    const pending = { ...claimOn(clock), isPending: true } as const;
    await clock.advance(60_000);
    const machine = createMachine(clock, winner, { pendingClaimOf: () => pending });
    assert.equal(await machine.claimResolver.onAnnouncement(KEY, other, claimOn(clock)), undefined);
    assert.equal(await machine.claimResolver.onQuery(KEY, other, claimOn(clock)), 'no');
    assert.equal(rowOf(machine).machine, other);
    assert.deepEqual([machine.conflicts, machine.released], [['released'], []]);
  });

  test('loses to a claim that outranks it: the copy makes our claim fail, and no session is released', async () => {
    const clock = createTestClock();
    const pending = { ...claimOn(clock), isPending: true } as const;
    const machine = createMachine(clock, other, { pendingClaimOf: () => pending });
    assert.equal(
      await machine.claimResolver.onAnnouncement(KEY, winner, claimOn(clock)),
      undefined,
    );
    const ours = { key: KEY, machine: other, origin: 'adopted' as const, ttlMs: TTL_MS };
    assert.equal((await machine.store.claim(ours)).machine, winner);
    assert.deepEqual([machine.conflicts, machine.released], [['released'], []]);
  });

  test('is ignored once the store has an owner for the key', async () => {
    const clock = createTestClock();
    const machine = createMachine(clock, A, {
      pendingClaimOf: () => ({ ...claimOn(clock), isPending: true }),
    });
    await machine.store.upsert({ key: KEY, machine: C, ...claimOn(clock), origin: 'copied' });
    assert.equal(await machine.claimResolver.onQuery(KEY, B, undefined), 'no');
  });
});
