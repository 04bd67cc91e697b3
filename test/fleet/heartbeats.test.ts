import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { MachineId } from '../../src/session.ts';
import type { Peer } from '../../src/fleet/directory.ts';
import {
  createHeartbeats,
  HEARTBEAT_MS,
  HEARTBEAT_RETRY_MS,
  type Heartbeats,
} from '../../src/fleet/heartbeats.ts';
import type { PeerStatus } from '../../src/fleet/messages.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { B, C, STATUS } from './support.ts';

/** How often the timer checks whether a heartbeat is due, in ms. */
const TICK_MS = 250;

interface Scene {
  readonly clock: TestClock;
  readonly heartbeats: Heartbeats;
  /** Sent heartbeats in order: monotonic ms, receiver, and the reported `takesSessions`. */
  readonly sent: [number, MachineId, boolean][];
  /** Machines that do not respond. */
  readonly unresponsive: Set<MachineId>;
  status: PeerStatus;
  listed: MachineId[];
  /** While set, responses wait for this promise. */
  gate: Promise<void> | undefined;
}

function createScene(): Scene {
  const clock = createTestClock();
  const scene: Scene = {
    clock,
    sent: [],
    unresponsive: new Set(),
    status: STATUS,
    listed: [B],
    gate: undefined,
    heartbeats: createHeartbeats({
      directory: {
        others: (): Peer[] => scene.listed.map((machine) => ({ machine, host: machine, port: 1 })),
      },
      peers: {
        sendHeartbeat: async (machine, { takesSessions }) => {
          scene.sent.push([clock.monotonicMs(), machine, takesSessions]);
          await scene.gate;
          return !scene.unresponsive.has(machine);
        },
      },
      clock,
      status: () => scene.status,
    }),
  };
  return scene;
}

/** The times at which heartbeats were sent to that Machine. */
function timesOf({ sent }: Scene, to: MachineId): number[] {
  return sent.flatMap(([atMs, machine]) => (machine === to ? [atMs] : []));
}

describe('heartbeats', () => {
  test('are sent at the start, and then every two seconds', async (t) => {
    const scene = createScene();
    t.after(() => scene.heartbeats.stop());
    await scene.heartbeats.start();
    await scene.clock.advance(3 * HEARTBEAT_MS);
    assert.equal(HEARTBEAT_MS, 2_000);
    assert.deepEqual(timesOf(scene, B), [0, 2_000, 4_000, 6_000]);
  });

  test('are retried half a second after one without a response', async (t) => {
    const scene = createScene();
    t.after(() => scene.heartbeats.stop());
    scene.unresponsive.add(B);
    scene.listed = [B, C];
    await scene.heartbeats.start();
    await scene.clock.advance(1_000);
    scene.unresponsive.clear();
    await scene.clock.advance(2_500);
    assert.equal(HEARTBEAT_RETRY_MS, 500);
    assert.deepEqual(timesOf(scene, B), [0, 500, 1_000, 1_500, 3_500]);
    assert.deepEqual(timesOf(scene, C), [0, 2_000]);
  });

  test('are sent immediately to all peers when our own status changes', async (t) => {
    const scene = createScene();
    t.after(() => scene.heartbeats.stop());
    scene.listed = [B, C];
    await scene.heartbeats.start();
    await scene.clock.advance(300);
    scene.status = { ...STATUS, takesSessions: false };
    await scene.clock.advance(TICK_MS);
    assert.deepEqual(scene.sent.slice(2), [
      [500, B, false],
      [500, C, false],
    ]);
    scene.status = STATUS;
    await scene.heartbeats.sendNow();
    assert.deepEqual(scene.sent.slice(4), [
      [550, B, true],
      [550, C, true],
    ]);
  });

  test('are sent after the one in flight when our status changed meanwhile', async (t) => {
    const scene = createScene();
    const { promise, resolve } = Promise.withResolvers<undefined>();
    t.after(() => scene.heartbeats.stop());
    await scene.heartbeats.start();
    scene.gate = promise.then(() => undefined);
    await scene.clock.advance(HEARTBEAT_MS);
    scene.status = { ...STATUS, takesSessions: false };
    await scene.clock.advance(HEARTBEAT_MS);
    assert.deepEqual(timesOf(scene, B), [0, 2_000], 'two heartbeats in flight');
    resolve(undefined);
    scene.gate = undefined;
    await scene.clock.advance(TICK_MS);
    assert.deepEqual(scene.sent.at(-1), [4_250, B, false]);
  });

  test('are sent to a new peer immediately, and no longer to one that has left', async (t) => {
    const scene = createScene();
    t.after(() => scene.heartbeats.stop());
    await scene.heartbeats.start();
    scene.listed = [C];
    await scene.clock.advance(HEARTBEAT_MS);
    assert.deepEqual(timesOf(scene, B), [0]);
    assert.deepEqual(timesOf(scene, C), [TICK_MS]);
    scene.listed = [B, C];
    await scene.clock.advance(TICK_MS);
    assert.deepEqual(timesOf(scene, B), [0, HEARTBEAT_MS + TICK_MS]);
  });

  test('leave no timer after they are stopped', async () => {
    const scene = createScene();
    const { promise, resolve } = Promise.withResolvers<undefined>();
    await scene.heartbeats.start();
    scene.gate = promise.then(() => undefined);
    await scene.clock.advance(HEARTBEAT_MS);
    let isStopped = false;
    const stopped = scene.heartbeats.stop().then(() => (isStopped = true));
    await scene.clock.advance(HEARTBEAT_MS);
    assert.equal(isStopped, false, 'one heartbeat is in flight');
    resolve(undefined);
    await stopped;
    await scene.clock.advance(10 * HEARTBEAT_MS);
    assert.deepEqual([timesOf(scene, B), scene.clock.pendingCount()], [[0, 2_000], 0]);
  });
});
