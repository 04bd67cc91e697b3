import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { MachineId } from '../../src/session.ts';
import { createForwardWatchdog, type ForwardWatchdog } from '../../src/fleet/forward-watchdog.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { machineId } from '../support/ids.ts';

const [M2, M3] = [machineId('m2'), machineId('m3')];

interface World {
  readonly clock: TestClock;
  readonly watch: ForwardWatchdog;
  /** Machines that were pinged, in order. */
  readonly pinged: MachineId[];
  /** Machines that respond to pings. */
  readonly alive: Set<MachineId>;
  /** Starts a forward; records its name when it fails. */
  readonly begin: (machine: MachineId, name: string) => () => void;
  readonly failed: string[];
}

function createWorld(ping?: (machine: MachineId) => Promise<boolean>): World {
  const clock = createTestClock();
  const pinged: MachineId[] = [];
  const alive = new Set<MachineId>();
  const failed: string[] = [];
  const watch = createForwardWatchdog({
    clock,
    ping: (machine) => {
      pinged.push(machine);
      return ping ? ping(machine) : Promise.resolve(alive.has(machine));
    },
  });
  const begin = (machine: MachineId, name: string): (() => void) =>
    watch.begin(machine, () => failed.push(name));
  return { clock, watch, pinged, alive, begin, failed };
}

describe('a forward', () => {
  test('fails after the second ping, within 4 s, if its peer does not respond', async () => {
    const { clock, watch, pinged, begin, failed } = createWorld();
    begin(M2, 'a');
    await clock.advance(1_999);
    assert.deepEqual([pinged, failed], [[], []]);
    await clock.advance(1);
    assert.deepEqual([pinged, failed], [[M2], []]);
    await clock.advance(999);
    assert.deepEqual([pinged, failed], [[M2], []]);
    await clock.advance(1);
    assert.deepEqual([pinged, failed], [[M2, M2], ['a']]);
    assert.deepEqual([watch.size(), clock.pendingCount()], [0, 0]);
  });

  test('may take as long as its app needs while its peer responds', async () => {
    const { clock, watch, pinged, alive, begin, failed } = createWorld();
    alive.add(M2);
    const end = begin(M2, 'a');
    await clock.advance(3_600_000);
    assert.deepEqual([failed, watch.size(), pinged.length], [[], 1, 3_599]);
    end();
    assert.deepEqual([watch.size(), clock.pendingCount()], [0, 0]);
  });

  test('does not fail if its peer misses one ping, or every other ping', async () => {
    const { clock, pinged, alive, begin, failed } = createWorld();
    begin(M2, 'a');
    for (let i = 0; i < 10; i += 1) {
      if (i % 2 === 0) alive.delete(M2);
      else alive.add(M2);
      await clock.advance(i === 0 ? 2_000 : 1_000);
    }
    assert.deepEqual([pinged.length, failed], [10, []]);
    alive.delete(M2);
    await clock.advance(2_000);
    assert.deepEqual(failed, ['a']);
  });

  test('is not watched any more after its response', async () => {
    const { clock, watch, pinged, begin, failed } = createWorld();
    const end = begin(M2, 'a');
    await clock.advance(2_000);
    end();
    end();
    await clock.advance(10_000);
    assert.deepEqual([pinged, failed, watch.size(), clock.pendingCount()], [[M2], [], 0, 0]);
  });

  test('causes no ping while it is recent, and does not fail together with an older one', async () => {
    const { clock, begin, failed } = createWorld();
    begin(M2, 'old');
    await clock.advance(1_500);
    begin(M2, 'young');
    await clock.advance(1_500);
    assert.deepEqual(failed, ['old']);
    await clock.advance(5_000);
    assert.deepEqual(failed, ['old', 'young']);
  });

  test('depends only on the pings of its own peer', async () => {
    const { clock, alive, begin, failed } = createWorld();
    alive.add(M3);
    begin(M2, 'to m2');
    begin(M3, 'to m3');
    begin(M2, 'to m2 too');
    await clock.advance(10_000);
    assert.deepEqual(failed, ['to m2', 'to m2 too']);
  });

  test('shares one ping at a time with all other forwards to the same peer', async () => {
    const { clock, pinged, begin, failed } = createWorld();
    for (let i = 0; i < 100; i += 1) begin(M2, String(i));
    await clock.advance(3_000);
    assert.deepEqual([pinged.length, failed.length], [2, 100]);
  });

  test('starts with no missed pings after an earlier failure of its peer', async () => {
    const { clock, pinged, begin, failed } = createWorld();
    begin(M2, 'first');
    await clock.advance(3_000);
    begin(M2, 'second');
    await clock.advance(2_999);
    assert.deepEqual([failed, pinged.length], [['first'], 3]);
    await clock.advance(1);
    assert.deepEqual(failed, ['first', 'second']);
  });
});

describe('a ping', () => {
  test('that takes long is awaited, and no other is sent meanwhile', async () => {
    const pings: ((isThere: boolean) => void)[] = [];
    const { clock, pinged, begin, failed } = createWorld(
      () => new Promise((resolve) => pings.push(resolve)),
    );
    begin(M2, 'a');
    await clock.advance(10_000);
    assert.equal(pinged.length, 1);
    pings[0]?.(false);
    await clock.advance(1_000);
    assert.deepEqual([pinged.length, failed], [2, []]);
    pings[1]?.(false);
    await clock.advance(0);
    assert.deepEqual(failed, ['a']);
  });

  test('that completes after all forwards ended has no effect', async () => {
    for (const isStopped of [true, false]) {
      const pings: ((isThere: boolean) => void)[] = [];
      const { clock, watch, begin, failed } = createWorld(
        () => new Promise((resolve) => pings.push(resolve)),
      );
      const end = begin(M2, 'a');
      await clock.advance(2_000);
      if (isStopped) watch.stop();
      else end();
      pings[0]?.(false);
      await clock.advance(10_000);
      assert.deepEqual([failed, watch.size(), clock.pendingCount()], [[], 0, 0]);
    }
  });
});

test('a watchdog that is stopped watches no forward and leaves no timer', async () => {
  const { clock, watch, pinged, begin, failed } = createWorld();
  begin(M2, 'a');
  begin(M3, 'b');
  watch.stop();
  await clock.advance(10_000);
  assert.deepEqual([pinged, failed, watch.size(), clock.pendingCount()], [[], [], 0, 0]);
});
