/** Two Machines take the session of one that is gone, at once: real stores, real peers. */
import assert from 'node:assert/strict';
import { after, describe, test, type TestContext } from 'node:test';
import type { BindingOrigin, MachineId } from '../../src/session.ts';
import { systemClock, type Clock } from '../../src/clock.ts';
import { createClaimResolver, type ClaimResolver } from '../../src/fleet/claim-resolver.ts';
import { createPeerService } from '../../src/fleet/peer-service.ts';
import { createPeers } from '../../src/fleet/peers.ts';
import { createBindings, type Bindings } from '../../src/proxy/bindings.ts';
import type { Lookup, SessionStore } from '../../src/store/store.ts';
import { KEY, listen, startDirectory, TTL_MS, until } from '../fleet/support.ts';
import { servePeers } from '../support/peer-service.ts';
import { createTestClock } from '../support/clock.ts';
import { machineId } from '../support/ids.ts';
import { createTestLiveness } from '../support/liveness.ts';
import { skipUnlessFound } from '../support/needed.ts';
import { neededForRedis, startRedisServer } from '../support/redis-server.ts';
import { createPlace } from '../store/place.ts';
import { openRedis } from '../store/redis-place.ts';

const GONE = machineId('a1');
const TAKERS = [machineId('b2'), machineId('c3')] as const;

/** No limit of time is ever over: what is tested here is not how busy the computer is. */
const patientClock: Clock = { ...systemClock, after: () => () => undefined };

interface Taker {
  readonly machine: MachineId;
  readonly store: SessionStore;
  readonly bindings: Bindings;
}

/** Machines that ask and tell each other, each with the store that `open` gives it. */
async function startTakers(
  t: TestContext,
  open: (machine: MachineId) => Promise<SessionStore>,
  closeAfterwards: (closeable: { close(): unknown }) => void,
): Promise<readonly Taker[]> {
  const clock = patientClock;
  const stores = new Map<MachineId, { store: SessionStore; keeper: ClaimResolver }>();
  const listening: { machine: MachineId; port: number }[] = [];
  for (const machine of TAKERS) {
    const store = await open(machine);
    const others = TAKERS.filter((other) => other !== machine);
    const entries = others.map((other) => ({ machine: other, port: 1 }));
    const directory = await startDirectory(t, createTestClock(), machine, entries);
    const keeper = createClaimResolver({ self: machine, store, clock, isReady: () => true });
    const status = () => ({ version: 2, takesSessions: true, region: undefined });
    const service = createPeerService({ self: machine, claimResolver: keeper, directory, status });
    const { port } = await listen(t, (request, response) => servePeers(service, request, response));
    stores.set(machine, { store, keeper });
    listening.push({ machine, port });
  }
  const takers: Taker[] = [];
  for (const [machine, { store, keeper }] of stores) {
    const peers = createPeers({
      self: machine,
      directory: await startDirectory(t, createTestClock(), machine, listening),
      clock,
      random: Math.random,
      liveness: createTestLiveness(clock),
      onClaim: (key, claimant) => void keeper.onAnnouncement(key, claimant.machine, claimant),
      onOutranked: (key, winner) => void keeper.onAnnouncement(key, winner.machine, winner),
    });
    const bindings = createBindings({
      ...{ self: machine, store, peers, clock, ttlMs: TTL_MS },
      onFailure: (what, error) => assert.fail(`${what}: ${String(error)}`),
      onConflict: () => undefined,
    });
    closeAfterwards({
      close: async () => {
        await bindings.stop();
        await peers.stop();
        await keeper.idle();
      },
    });
    takers.push({ machine, store, bindings });
  }
  return takers;
}

/** Each with a file of its own. */
async function startApart(t: TestContext): Promise<readonly Taker[]> {
  const place = await createPlace(t);
  const open = (machine: MachineId): Promise<SessionStore> =>
    place.open({ path: place.path(machine) });
  return startTakers(t, open, (closeable) => place.closeAfterwards(closeable));
}

async function knowOfTheGone({ store }: Taker, origin: BindingOrigin): Promise<void> {
  const row = { key: KEY, machine: GONE, origin, generation: 1, ttlMs: TTL_MS };
  await store.upsert(row);
}

const ownerIn = (looked: Lookup): MachineId | undefined =>
  typeof looked === 'string' ? undefined : looked.machine;

async function endWithOneOwner(takers: readonly Taker[], generation: number): Promise<void> {
  const owners = async (): Promise<(MachineId | undefined)[]> =>
    Promise.all(takers.map(async ({ store }) => ownerIn(await store.lookup(KEY))));
  await until(async () => new Set(await owners()).size === 1);
  for (const { bindings } of takers) await bindings.stop();
  const [owner, other] = await owners();
  assert.ok(TAKERS.some((taker) => taker === owner));
  assert.equal(other, owner);
  for (const { store } of takers) {
    const found = await store.lookup(KEY);
    assert.ok(typeof found === 'object');
    assert.equal(found.generation, generation);
  }
}

describe('two Machines that take over at once end with one owner', () => {
  test('with a file each: what both knew to be the session of the one that is gone', async (t) => {
    const takers = await startApart(t);
    for (const taker of takers) await knowOfTheGone(taker, 'copied');
    for (const { bindings } of takers) void bindings.adopt(KEY, GONE);
    await endWithOneOwner(takers, 2);
  });

  test('with a file each: an id of a client that neither has heard of', async (t) => {
    const takers = await startApart(t);
    for (const { bindings } of takers) void bindings.adopt(KEY, undefined);
    await endWithOneOwner(takers, 1);
  });

  test('with a file each: one that knew of it and one that had but a hint', async (t) => {
    const takers = await startApart(t);
    const [first, second] = takers;
    assert.ok(first && second);
    await knowOfTheGone(first, 'copied');
    void first.bindings.adopt(KEY, GONE);
    void second.bindings.adopt(KEY, undefined);
    await endWithOneOwner(takers, 2);
    assert.equal(ownerIn(await second.store.lookup(KEY)), first.machine);
  });
});

skipUnlessFound(neededForRedis, (program) => {
  const server = startRedisServer({ after }, { program });
  let namespaceCount = 0;

  async function startSharing(t: TestContext): Promise<readonly Taker[]> {
    const namespace = `takeover-${(namespaceCount += 1)}`;
    const { url } = await server;
    return startTakers(
      t,
      () => openRedis(t, url, { namespace }),
      (closeable) => t.after(() => closeable.close()),
    );
  }

  test('two Machines that share a store end with one owner of what they take over', async (t) => {
    const takers = await startSharing(t);
    const [first] = takers;
    assert.ok(first);
    await knowOfTheGone(first, 'adopted');
    for (const { bindings } of takers) void bindings.adopt(KEY, GONE);
    for (const { bindings } of takers) await bindings.stop();
    await endWithOneOwner(takers, 2);
  });

  test('two Machines that share a store end with one owner of an id that a client brings', async (t) => {
    const takers = await startSharing(t);
    for (const { bindings } of takers) void bindings.adopt(KEY, undefined);
    for (const { bindings } of takers) await bindings.stop();
    await endWithOneOwner(takers, 1);
  });
});
