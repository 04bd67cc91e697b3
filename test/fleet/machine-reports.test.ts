import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MIN_ABSENCE_MS } from '../../src/fleet/gone-machines.ts';
import type { Liveness, LivenessOptions } from '../../src/fleet/liveness.ts';
import { reportMachines } from '../../src/fleet/machine-reports.ts';
import type { MachineId } from '../../src/session.ts';
import { createTestClock } from '../support/clock.ts';
import { createTestLiveness } from '../support/liveness.ts';
import { B, C, SELF, STATUS } from './support.ts';

function open(options: Partial<LivenessOptions> = {}) {
  const clock = createTestClock();
  const liveness = createTestLiveness(clock, options);
  const read = (running: readonly MachineId[], deployed = running): void => {
    const nowMs = clock.monotonicMs();
    liveness.onReading({
      ...{ startedAtMs: nowMs, endedAtMs: nowMs },
      entries: running.map((machine) => ({
        peer: { machine, host: `${machine}.vm.shop.internal`, port: 8081, address: 'fdaa::2' },
        addresses: ['fdaa::2'],
      })),
      running: new Set([SELF, ...running]),
      deployed: new Set([SELF, ...deployed]),
    });
  };
  return { clock, liveness, read };
}

function statesOf(liveness: Liveness): Record<string, string> {
  const reports = reportMachines(liveness, SELF);
  return Object.fromEntries(
    reports.map(({ machine, state, why }) => [machine, `${state}: ${why}`]),
  );
}

test('a Machine is reported with what it has said of itself', () => {
  const { liveness, read } = open();
  read([B]);
  assert.deepEqual(statesOf(liveness), { bb: 'running: listed, not heard from yet' });
  liveness.onStatus(B, { ...STATUS, takesSessions: false, region: 'lhr' });
  assert.deepEqual(reportMachines(liveness, SELF), [
    {
      ...{ machine: B, region: 'lhr', state: 'running', why: 'responds to heartbeats' },
      ...{ takesSessions: false, address: 'fdaa::2 port 8081' },
    },
  ]);
});

test('an unresponsive Machine is reported with the evidence', async () => {
  const { clock, liveness, read } = open();
  read([B, C]);
  liveness.onStatus(B, STATUS);
  liveness.onNoResponse(C);
  liveness.onMissedHeartbeat(B);
  liveness.onMissedHeartbeat(B);
  await clock.advance(1);
  assert.deepEqual(statesOf(liveness), {
    bb: 'unresponsive: does not respond to heartbeats',
    cc: 'unresponsive: did not respond to a call in the last seconds',
  });
});

test('a Machine that Fly Proxy can not reach is reported so', () => {
  const { liveness, read } = open();
  read([B]);
  liveness.onUnreachableFromEdge(B);
  assert.match(statesOf(liveness).bb ?? '', /^unreachable-from-edge: Fly Proxy could not reach it/);
});

test('a stopped Machine is reported, and one that counts as gone', async () => {
  const { clock, liveness, read } = open({ ownerStopped: 'gone' });
  read([], [B]);
  assert.equal(statesOf(liveness).bb, 'stopped: deployed, not running: a replay starts it');
  await clock.advance(MIN_ABSENCE_MS);
  read([], [B]);
  assert.equal(statesOf(liveness).bb, 'gone: stopped, and OWNER_STOPPED=gone');
});

test('a Machine that left the list is reported for ten minutes', async () => {
  const { clock, liveness, read } = open();
  read([B]);
  read([]);
  assert.equal(statesOf(liveness).bb, 'unlisted: left the list of Machines a moment ago');
  await clock.advance(MIN_ABSENCE_MS);
  read([]);
  assert.equal(statesOf(liveness).bb, 'gone: left the list of Machines');
  await clock.advance(600_000);
  assert.deepEqual(statesOf(liveness), {});
});

test('a Machine that refuses connections for long is reported as gone', async () => {
  const { clock, liveness, read } = open({ goneAfterMs: 1_000 });
  read([B]);
  liveness.onConnectFailed(B, true);
  await clock.advance(1_000);
  liveness.onConnectFailed(B, true);
  assert.equal(statesOf(liveness).bb, 'gone: refuses connections for FLEET_GONE_AFTER_MS');
});

test('names that clients make up are not reported', () => {
  const { liveness, read } = open();
  read([]);
  liveness.of(B);
  assert.deepEqual(statesOf(liveness), {});
});
