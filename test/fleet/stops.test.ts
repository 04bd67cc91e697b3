import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MIN_ABSENCE_MS } from '../../src/fleet/absences.ts';
import { createStops, type Stops } from '../../src/fleet/stops.ts';
import { machineId } from '../support/ids.ts';

const [SELF, B] = [machineId('aa'), machineId('bb')];

interface At {
  readonly ms: number;
  readonly tookMs?: number;
  readonly running?: boolean;
  readonly deployed?: boolean;
}

/** A reading that has B so. */
function record(stops: Stops, { ms, tookMs = 0, running = false, deployed = true }: At): void {
  stops.record({
    startedAtMs: ms,
    endedAtMs: ms + tookMs,
    running: new Set(running ? [SELF, B] : [SELF]),
    deployed: new Set(deployed ? [SELF, B] : [SELF]),
  });
}

describe('a Machine is confirmed to be stopped', () => {
  // prettier-ignore
  const rows: readonly { readonly claim: string; readonly readings: readonly At[]; readonly is: boolean }[] = [
    { claim: 'never without a reading', readings: [], is: false },
    { claim: 'not by one reading', readings: [{ ms: 0 }], is: false },
    { claim: 'by two that are ten seconds apart', readings: [{ ms: 0 }, { ms: MIN_ABSENCE_MS }], is: true },
    { claim: 'not by two that are closer', readings: [{ ms: 0 }, { ms: MIN_ABSENCE_MS - 1 }], is: false },
    { claim: 'counted from the end of the first to the begin of the last', readings: [{ ms: 0, tookMs: 1 }, { ms: MIN_ABSENCE_MS, tookMs: 5 }], is: false },
    { claim: 'not if it ran between them', readings: [{ ms: 0 }, { ms: 5_000, running: true }, { ms: 10_000 }], is: false },
    { claim: 'not if it runs now', readings: [{ ms: 0 }, { ms: 10_000 }, { ms: 15_000, running: true }], is: false },
    { claim: 'not if it is not deployed any more: then it may be gone', readings: [{ ms: 0 }, { ms: 10_000, deployed: false }], is: false },
  ];
  for (const { claim, readings, is } of rows) {
    it(claim, () => {
      const stops = createStops();
      for (const reading of readings) record(stops, reading);
      assert.equal(stops.isConfirmedStopped(B), is);
      assert.equal(stops.isConfirmedStopped(SELF), false);
    });
  }

  it('later than it is listed as such', () => {
    const stops = createStops();
    record(stops, { ms: 0, running: true });
    assert.equal(stops.isStopped(B), false);
    record(stops, { ms: 5_000 });
    assert.deepEqual([stops.isStopped(B), stops.isConfirmedStopped(B)], [true, false]);
  });
});
