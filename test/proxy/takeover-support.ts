/** Two Machines that concurrently take over the session of a Machine that is gone: real stores, real peers. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
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
import { nullMetrics } from '../../src/observability/metrics.ts';

export const GONE = machineId('a1');
const TAKERS = [machineId('b2'), machineId('c3')] as const;

/** Timers never fire, so that a busy computer causes no timeout. */
const patientClock: Clock = { ...systemClock, after: () => () => undefined };

export interface Taker {
  readonly machine: MachineId;
  readonly store: SessionStore;
  readonly bindings: Bindings;
}

/** Machines that query and inform each other, each with the store that `open` returns for it. */
export async function startTakers(
  t: TestContext,
  open: (machine: MachineId) => Promise<SessionStore>,
  closeAfterwards: (closeable: { close(): unknown }) => void,
): Promise<readonly Taker[]> {
  const clock = patientClock;
  const stores = new Map<MachineId, { store: SessionStore; resolver: ClaimResolver }>();
  const listening: { machine: MachineId; port: number }[] = [];
  for (const machine of TAKERS) {
    const store = await open(machine);
    const others = TAKERS.filter((other) => other !== machine);
    const entries = others.map((other) => ({ machine: other, port: 1 }));
    const directory = await startDirectory(t, createTestClock(), machine, entries);
    const resolver = createClaimResolver({ self: machine, store, clock, isReady: () => true });
    const status = () => ({ version: 2, takesSessions: true, region: undefined });
    const service = createPeerService({
      self: machine,
      claimResolver: resolver,
      directory,
      status,
    });
    const { port } = await listen(t, (request, response) => servePeers(service, request, response));
    stores.set(machine, { store, resolver });
    listening.push({ machine, port });
  }
  const takers: Taker[] = [];
  for (const [machine, { store, resolver }] of stores) {
    const peers = createPeers({
      self: machine,
      directory: await startDirectory(t, createTestClock(), machine, listening),
      clock,
      random: Math.random,
      liveness: createTestLiveness(clock),
      onClaim: (key, claimant) => void resolver.onAnnouncement(key, claimant.machine, claimant),
      onOutranked: (key, winner) => void resolver.onAnnouncement(key, winner.machine, winner),
    });
    const bindings = createBindings({
      metrics: nullMetrics,
      ...{ self: machine, store, peers, clock, ttlMs: TTL_MS },
      onFailure: ({ operation, error }) => assert.fail(`${operation}: ${String(error)}`),
      onConflict: () => undefined,
    });
    closeAfterwards({
      close: async () => {
        await bindings.stop();
        await peers.stop();
        await resolver.idle();
      },
    });
    takers.push({ machine, store, bindings });
  }
  return takers;
}

export async function storeRowOfGone({ store }: Taker, origin: BindingOrigin): Promise<void> {
  const row = { key: KEY, machine: GONE, origin, generation: 1, ttlMs: TTL_MS };
  await store.upsert(row);
}

export const ownerIn = (found: Lookup): MachineId | undefined =>
  typeof found === 'string' ? undefined : found.machine;

export async function assertOneOwner(takers: readonly Taker[], generation: number): Promise<void> {
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
