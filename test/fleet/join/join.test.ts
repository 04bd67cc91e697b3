import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { BindingOrigin, MachineId, SessionKey } from '../../../src/session.ts';
import { systemClock, type Clock } from '../../../src/clock.ts';
import { BINDINGS_PATH } from '../../../src/fleet/join/reader.ts';
import { createJoinService } from '../../../src/fleet/join/service.ts';
import type { Listing } from '../../../src/fleet/directory.ts';
import {
  startFleetJoin,
  type JoinOptions,
  type JoinSummary,
} from '../../../src/fleet/join/join.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import type { SessionStore, StatedBinding, PeerCopy } from '../../../src/store/store.ts';
import { createTestClock, type TestClock } from '../../support/clock.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { createPlace } from '../../store/place.ts';
import {
  B,
  C,
  createStore,
  listen,
  readBody,
  SELF,
  startDirectory,
  startPeer,
  TTL_MS,
  until,
  type ListeningServer,
  type TestPeer,
} from '../support.ts';
import { ownerIn } from '../../store/claims.ts';

const ASLEEP = machineId('dd');
const KEY = keyOf('one');
const MANY = 100_000;
const FILLED_AT_ONCE = 20_000;
const MAX_SESSIONS = 1_000_000;

/** A peer that sends what it knows. Of other Machines it lists only `SELF`. */
async function startSender(
  t: TestContext,
  machine: MachineId,
  { store = createStore(createTestClock()), clock = createTestClock() } = {},
): Promise<TestPeer> {
  const liveness = { others: () => [], isConfirmedGone: () => false };
  const bindings = createJoinService({ self: machine, store, liveness, clock, random });
  t.after(() => bindings.stop());
  return startPeer(t, clock, machine, {
    store,
    handlers: { [BINDINGS_PATH]: bindings.respond },
  });
}

const random = (): number => 0.5;

/** One minute per second, for rates and pauses. */
const SPEEDUP = 60;
const hurriedClock: Clock = {
  ...systemClock,
  monotonicMs: () => systemClock.monotonicMs() * SPEEDUP,
  sleep: (ms, signal) => systemClock.sleep(ms / SPEEDUP, signal),
};

interface Newcomer {
  readonly store: SessionStore;
  readonly abandoned: string[];
  readonly summary: Promise<JoinSummary>;
  readonly stop: () => Promise<void>;
}

/** `SELF`, which starts now. Machines that are no peers are stopped. */
async function join(
  t: TestContext,
  peers: readonly { machine: MachineId; port: number }[],
  options: Partial<JoinOptions> = {},
): Promise<Newcomer> {
  const clock = options.clock ?? systemClock;
  const directory = await startDirectory(t, createTestClock(), SELF, peers);
  const listing = (machine: MachineId): Listing =>
    directory.peer(machine) ? 'running' : 'stopped';
  const store = options.store ?? createMemoryStore({ clock, limits: LIMITS });
  const abandoned: string[] = [];
  const ended = Promise.withResolvers<JoinSummary>();
  const joining = startFleetJoin({
    self: SELF,
    store,
    maxSessions: MAX_SESSIONS,
    directory,
    liveness: { listing, isConfirmedGone: () => false },
    clock,
    random,
    onConflict: () => undefined,
    onImported: () => undefined,
    onReadFailed: (machine) => abandoned.push(machine),
    onEnd: ended.resolve,
    ...options,
  });
  t.after(() => joining.stop());
  return { store, abandoned, summary: ended.promise, stop: () => joining.stop() };
}

const LIMITS = { maxSessions: MAX_SESSIONS, maxAgeMs: 0 };

function copyOf(key: SessionKey, machine: MachineId, fields: Partial<PeerCopy> = {}): PeerCopy {
  return {
    ...{ key, machine, generation: 1, createdAt: 0, ttlMs: TTL_MS, isFromOwner: false },
    ...fields,
  };
}

function bind(
  store: SessionStore,
  machine: MachineId,
  { key = KEY, generation = 1, origin = 'copied', ttlMs = TTL_MS }: Partial<StatedBinding> = {},
) {
  return store.upsert({ key, machine, origin, generation, ttlMs });
}

async function fill(store: SessionStore, machine: MachineId, count: number): Promise<void> {
  const copies = Array.from({ length: count }, (_, index) => copyOf(keyOf(`s${index}`), machine));
  for (let start = 0; start < count; start += FILLED_AT_ONCE) {
    await store.addCopies?.(copies.slice(start, start + FILLED_AT_ONCE));
  }
}

describe('a Machine that joins', () => {
  for (const kind of ['memory', 'sqlite'] as const) {
    it(`reads all of the ${MANY} bindings of a peer, its store in ${kind}`, async (t) => {
      const store = await openStore(t, kind);
      await fill(store, B, MANY);
      const peer = await startSender(t, B, { store, clock: hurriedClock as TestClock });
      const newcomer = await join(t, [peer], {
        store: await openStore(t, kind),
        clock: hurriedClock,
      });
      const { bindings, peers, isFull } = await newcomer.summary;
      assert.deepEqual({ bindings, peers, isFull }, { bindings: MANY, peers: 1, isFull: false });
      assert.equal((await newcomer.store.getMetrics()).total, MANY);
      assert.equal(await ownerIn(newcomer.store, keyOf(`s${MANY - 1}`)), B);
    });
  }

  it('reads sessions of stopped owners from peers that have copies', async (t) => {
    const peer = await startSender(t, B);
    await bind(peer.store, ASLEEP, { generation: 3 });
    const { store, summary } = await join(t, [peer]);
    assert.equal((await summary).bindings, 1);
    const found = await store.lookup(KEY);
    assert.ok(typeof found === 'object');
    const { machine, origin, generation } = found;
    assert.deepEqual(
      { machine, origin, generation },
      { machine: ASLEEP, origin: 'copied', generation: 3 },
    );
  });

  it('preserves the expiry and the age of each binding, whatever the clocks of the peers report', async (t) => {
    const clock = createTestClock();
    const peer = await startSender(t, B, { store: createStore(clock), clock });
    await bind(peer.store, B, { origin: 'learned' });
    await clock.advance(100_000);
    const limits = { maxSessions: MAX_SESSIONS, maxAgeMs: TTL_MS };
    const hour = 3_600_000;
    const later = { ...systemClock, now: () => clock.now() + hour };
    const store = createMemoryStore({ clock: later, limits });
    await (
      await join(t, [peer], { store, clock: later })
    ).summary;
    const found = store.lookup(KEY);
    assert.ok(typeof found === 'object');
    assert.equal(found.createdAt, later.now() - 100_000);
    assert.equal(found.expiresAt, later.now() + TTL_MS - 100_000);
    // Its use does not extend its life.
    await store.touch(KEY, TTL_MS);
    const used = store.lookup(KEY);
    assert.equal(typeof used === 'object' && used.expiresAt, later.now() + TTL_MS - 100_000);
  });

  it('leaves no timer and no socket when it stops halfway', async (t) => {
    const clock = createTestClock();
    const gate = Promise.withResolvers<undefined>();
    const peer = await startSender(t, B);
    peer.gate = gate.promise;
    const { stop } = await join(t, [peer], { clock });
    await until(() => peer.requests.length === 1);
    await stop();
    gate.resolve(undefined);
    assert.equal(clock.pendingCount(), 0);
    await until(async () => (await peer.connections()) === 0);
  });
});

describe('the store of a Machine that joins', () => {
  const cases: [
    string,
    here: [MachineId, BindingOrigin, number],
    told: [MachineId, number],
    MachineId,
  ][] = [
    ['a session of its own', [SELF, 'learned', 1], [B, 2], SELF],
    ['a copy of the same generation', [C, 'copied', 1], [B, 1], C],
    ['a copy of a higher generation', [C, 'copied', 3], [B, 2], C],
    ['any copy over second-hand information', [C, 'copied', 1], [ASLEEP, 2], C],
    ["no older copy over the owner's own binding", [C, 'copied', 1], [B, 2], B],
  ];
  for (const [what, [machine, origin, generation], [sender, received], owner] of cases) {
    it(`keeps ${what}`, async (t) => {
      const peer = await startSender(t, B);
      await bind(peer.store, sender, { generation: received });
      const store = createMemoryStore({ clock: systemClock, limits: LIMITS });
      await bind(store, machine, { origin, generation });
      await (
        await join(t, [peer], { store })
      ).summary;
      assert.equal(await ownerIn(store, KEY), owner);
    });
  }

  it("ignores a peer's bindings for running Machines and for this one", async (t) => {
    const peer = await startSender(t, B);
    const other = await startSender(t, C);
    await bind(peer.store, C, { key: keyOf('forged') });
    const liar = await startLiar(t, ASLEEP, [C, SELF]);
    const { store, summary } = await join(t, [peer, other, liar]);
    assert.deepEqual((await summary).bindings, 0);
    assert.equal((await store.getMetrics()).total, 0);
  });

  it('fills at most half of its store, and evicts nothing', async (t) => {
    const peer = await startSender(t, B);
    await fill(peer.store, B, 600);
    const limits = { maxSessions: 1_000, maxAgeMs: 0 };
    const store = createMemoryStore({ clock: systemClock, limits });
    const used = Array.from({ length: 100 }, (_, index) => keyOf(`used-${index}`));
    for (const key of used) await bind(store, C, { key });
    const { summary } = await join(t, [peer], { store, maxSessions: 1_000 });
    const { bindings, isFull } = await summary;
    assert.deepEqual({ bindings, isFull }, { bindings: 400, isFull: true });
    for (const key of used) assert.equal(await ownerIn(store, key), C);
  });
});

describe('a Machine that joins, when a peer fails', () => {
  it('skips a peer whose version lacks these messages', async (t) => {
    const { port } = await listen(t, (_, response) => response.writeHead(404).end());
    const old = { machine: B, port };
    const peer = await startSender(t, C);
    await bind(peer.store, C);
    const { summary, abandoned } = await join(t, [old, peer]);
    const { bindings, peers } = await summary;
    assert.deepEqual({ bindings, peers }, { bindings: 1, peers: 1 });
    assert.deepEqual(abandoned, []);
  });

  it('retries a failing peer from the last page, and abandons it after the third failure', async (t) => {
    const requested: unknown[] = [];
    const failing = await listen(t, (request, response) => {
      void readBody(request).then((text) => {
        const { after } = JSON.parse(text) as { after?: string };
        requested.push(after);
        const page = { machine: B, owners: { 0: B }, rows: [KEY, 0, 1, 0, TTL_MS], next: 'x-1' };
        if (after === undefined) response.end(JSON.stringify(page));
        else response.destroy();
      });
    });
    const fast = { ...systemClock, sleep: () => systemClock.sleep(0) };
    const { store, summary, abandoned } = await join(t, [{ machine: B, port: failing.port }], {
      clock: fast,
    });
    const { bindings, peers } = await summary;
    assert.deepEqual({ bindings, peers, abandoned }, { bindings: 1, peers: 0, abandoned: [B] });
    assert.equal(await ownerIn(store, KEY), B);
    // A lost connection is retried immediately, too.
    assert.deepEqual(new Set(requested), new Set([undefined, 'x-1']));
    assert.equal(requested.filter((after) => after === undefined).length, 1);
  });
});

/** Responds to every request that sessions belong to these Machines. */
async function startLiar(
  t: TestContext,
  machine: MachineId,
  owners: readonly MachineId[],
): Promise<ListeningServer & { machine: MachineId }> {
  const rows = owners.flatMap((owner, index) => [keyOf(`of-${owner}`), index, 1, 0, TTL_MS]);
  const server = await listen(t, (request, response) => {
    assert.equal(request.url, BINDINGS_PATH);
    response.end(JSON.stringify({ machine, owners: Object.fromEntries(owners.entries()), rows }));
  });
  return { ...server, machine };
}

async function openStore(t: TestContext, kind: 'memory' | 'sqlite'): Promise<SessionStore> {
  if (kind === 'memory') return createMemoryStore({ clock: systemClock, limits: LIMITS });
  return (await createPlace(t)).open();
}
