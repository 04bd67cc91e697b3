/** Waits until the Machines are ready, for ten seconds at most. */
import assert from 'node:assert/strict';
import { systemClock } from '../../../src/clock.ts';
import type { SimulatedMachine } from '../../../src/simulator/machine.ts';
import { readinessAt } from '../../support/readiness.ts';
import { until } from '../support/until.ts';

const READY_WITHIN_MS = 10_000;

/** Each must accept sessions, and know all the others. */
export async function beReady(machines: readonly SimulatedMachine[]): Promise<void> {
  const startedAt = systemClock.monotonicMs();
  await until(async () => {
    const responses = await Promise.all(
      machines.map(async ({ id, ports }) => ({ id, ...(await readinessAt(ports.admin)) })),
    );
    return responses
      .filter(({ status, fleet }) => status !== 200 || fleet.others !== machines.length - 1)
      .map(({ id, status, reason = '', fleet }) => `${id}: ${status} ${reason}, ${fleet.others}`);
  });
  const tookMs = systemClock.monotonicMs() - startedAt;
  assert.ok(tookMs <= READY_WITHIN_MS, `it took ${Math.round(tookMs)} ms`);
}
