import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { MachineId } from '../../src/session.ts';
import {
  createAbsenceWatch,
  MIN_ABSENCE_MS,
  type AbsenceWatch,
} from '../../src/fleet/gone-machines.ts';
import { createTestClock } from '../support/clock.ts';
import { heldAfter } from '../support/held-bytes.ts';
import { machineId } from '../support/ids.ts';

const [SELF, B] = [machineId('aa'), machineId('bb')];

function record(
  absences: AbsenceWatch,
  startedAtMs: number,
  tookMs = 0,
  machines: MachineId[] = [SELF],
) {
  absences.record({ startedAtMs, endedAtMs: startedAtMs + tookMs, machines: new Set(machines) });
}

describe('absences', () => {
  it('count from the end of the first reading to the begin of the last', () => {
    const absences = createAbsenceWatch(createTestClock());
    absences.isConfirmedGone(B);
    record(absences, 0, 2_000);
    record(absences, MIN_ABSENCE_MS);
    assert.equal(absences.isConfirmedGone(B), false);
    record(absences, MIN_ABSENCE_MS + 2_000);
    assert.equal(absences.isConfirmedGone(B), true);
  });

  it('do not begin with a reading that was under way when the Machine was first asked for', async () => {
    const clock = createTestClock();
    const absences = createAbsenceWatch(clock);
    await clock.advance(1);
    absences.isConfirmedGone(B);
    record(absences, 0, 2);
    record(absences, 5_000);
    record(absences, 10_002);
    assert.equal(absences.isConfirmedGone(B), false);
    record(absences, 15_000);
    assert.equal(absences.isConfirmedGone(B), true);
  });

  it('begin with the reading that misses a Machine listed before', () => {
    const absences = createAbsenceWatch(createTestClock());
    record(absences, 0, 0, [SELF, B]);
    record(absences, 5_000);
    record(absences, 15_000);
    assert.equal(absences.isConfirmedGone(B), true);
  });

  it('end with a reading that lists the Machine', () => {
    const absences = createAbsenceWatch(createTestClock());
    absences.isConfirmedGone(B);
    for (const startedAtMs of [0, 10_000]) record(absences, startedAtMs);
    assert.equal(absences.isConfirmedGone(B), true);
    record(absences, 20_000, 0, [SELF, B]);
    assert.equal(absences.isConfirmedGone(B), false);
    record(absences, 25_000);
    assert.equal(absences.isConfirmedGone(B), false);
  });

  it('are watched for a bounded number of Machines, the one not asked for longest leaving first', () => {
    const absences = createAbsenceWatch(createTestClock(), 2);
    absences.isConfirmedGone(B);
    for (const made of ['x1', 'x2', 'x3', 'x4']) {
      absences.isConfirmedGone(machineId(made));
      absences.isConfirmedGone(B);
    }
    record(absences, 0);
    record(absences, 10_000);
    assert.equal(absences.isConfirmedGone(B), true);
    assert.equal(absences.isConfirmedGone(machineId('x4')), true);
    assert.equal(absences.isConfirmedGone(machineId('x3')), false);
  });

  it('keep the names of made-up Machines, and not the heads that these were read from', () => {
    const absences = createAbsenceWatch(createTestClock());
    const heldBytes = heldAfter(() => {
      for (let i = 0; i < 1_000; i += 1) {
        const head = Buffer.alloc(30_000, `machinenumber${i},`).toString('latin1');
        absences.isConfirmedGone(machineId(head.slice(0, head.indexOf(','))));
      }
    });
    assert.ok(heldBytes < 3_000_000, `${heldBytes} bytes`);
  });
});
