import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { MachineId } from '../../src/session.ts';
import { GoneMachines, MIN_ABSENCE_MS } from '../../src/fleet/gone-machines.ts';
import { createTestClock } from '../support/clock.ts';
import { heldAfter } from '../support/held-bytes.ts';
import { machineId } from '../support/ids.ts';

const [SELF, B] = [machineId('aa'), machineId('bb')];

function createGone(clock = createTestClock(), maxWatched?: number): GoneMachines {
  return new GoneMachines({
    clock,
    goneAfterMs: 0,
    ...(maxWatched !== undefined && { maxWatched }),
  });
}

function read(gone: GoneMachines, startedAtMs: number, tookMs = 0, machines: MachineId[] = [SELF]) {
  gone.onReading({
    startedAtMs,
    endedAtMs: startedAtMs + tookMs,
    running: new Set(machines),
    deployed: new Set(),
  });
}

describe('an absent Machine', () => {
  it('is gone after ten seconds, measured from the end of the first reading to the start of the last', () => {
    const gone = createGone();
    gone.isAbsentForLong(B);
    read(gone, 0, 2_000);
    read(gone, MIN_ABSENCE_MS);
    assert.equal(gone.isAbsentForLong(B), false);
    read(gone, MIN_ABSENCE_MS + 2_000);
    assert.equal(gone.isAbsentForLong(B), true);
  });

  it('is not absent from a reading that was in flight at its first query', async () => {
    const clock = createTestClock();
    const gone = createGone(clock);
    await clock.advance(1);
    gone.isAbsentForLong(B);
    read(gone, 0, 2);
    read(gone, 5_000);
    read(gone, 10_002);
    assert.equal(gone.isAbsentForLong(B), false);
    read(gone, 15_000);
    assert.equal(gone.isAbsentForLong(B), true);
  });

  it('that was listed is absent from the first reading that lacks it', () => {
    const gone = createGone();
    read(gone, 0, 0, [SELF, B]);
    read(gone, 5_000);
    read(gone, 15_000);
    assert.equal(gone.isAbsentForLong(B), true);
  });

  it('is no longer gone after a reading that lists it', () => {
    const gone = createGone();
    gone.isAbsentForLong(B);
    for (const startedAtMs of [0, 10_000]) read(gone, startedAtMs);
    assert.equal(gone.isAbsentForLong(B), true);
    read(gone, 20_000, 0, [SELF, B]);
    assert.equal(gone.isAbsentForLong(B), false);
    read(gone, 25_000);
    assert.equal(gone.isAbsentForLong(B), false);
  });

  it('is tracked up to a bounded number of Machines; the least recently queried one is dropped first', () => {
    const gone = createGone(createTestClock(), 2);
    gone.isAbsentForLong(B);
    for (const made of ['x1', 'x2', 'x3', 'x4']) {
      gone.isAbsentForLong(machineId(made));
      gone.isAbsentForLong(B);
    }
    read(gone, 0);
    read(gone, 10_000);
    assert.equal(gone.isAbsentForLong(B), true);
    assert.equal(gone.isAbsentForLong(machineId('x4')), true);
    assert.equal(gone.isAbsentForLong(machineId('x3')), false);
  });

  it('does not keep the request head that contained its name in memory', () => {
    const gone = createGone();
    const heldBytes = heldAfter(() => {
      for (let i = 0; i < 1_000; i += 1) {
        const head = Buffer.alloc(30_000, `machinenumber${i},`).toString('latin1');
        gone.isAbsentForLong(machineId(head.slice(0, head.indexOf(','))));
      }
    });
    assert.ok(heldBytes < 3_000_000, `${heldBytes} bytes`);
  });
});
