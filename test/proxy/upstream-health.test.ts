/** When the app counts as down, when as up again, and when it is asked at all. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { Probe, ProbeOutcome } from '../../src/proxy/upstream-probes.ts';
import { createUpstreamHealth, type UpstreamHealth } from '../../src/proxy/upstream-health.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';

const CHECK_MS = 5_000;

interface Setting {
  readonly health: UpstreamHealth;
  readonly clock: TestClock;
  /** What the next probes find. */
  app: 'well' | 'ill';
  /** Moments at which the app was asked, in ms from the start. */
  readonly asked: number[];
  /** Changes, with their reasons. */
  readonly told: string[];
}

function setUp(t: TestContext, checkMs: number | undefined, probe?: Probe): Setting {
  const clock = createTestClock();
  const ask: Probe = (signal) => {
    setting.asked.push(clock.monotonicMs());
    const outcome: ProbeOutcome =
      setting.app === 'well' ? { kind: 'passed' } : { kind: 'failed', reason: 'ill' };
    return probe ? probe(signal) : Promise.resolve(outcome);
  };
  const never: Probe = () => assert.fail('this probe is not the one to use');
  const health = createUpstreamHealth({
    clock,
    check: checkMs === undefined ? undefined : { probe: ask, intervalMs: checkMs },
    connect: checkMs === undefined ? ask : never,
    onChange: (status) => setting.told.push(status.state === 'up' ? 'up' : status.reason),
  });
  const setting: Setting = { health, clock, app: 'well', asked: [], told: [] };
  t.after(() => health.stop());
  return setting;
}

/** One step: `refuse` is a request refused, `well` and `ill` the app from now on, a number so many ms. */
type Step = 'start' | 'refuse' | 'well' | 'ill' | number;

describe('the app', () => {
  const rows: readonly (readonly [
    claim: string,
    checkMs: number | undefined,
    steps: readonly Step[],
    told: readonly string[],
    asked: readonly number[],
  ])[] = [
    ['is not asked while it is up and no check is set', undefined, ['start', 60_000], [], []],
    ['that refuses is down at once', undefined, ['refuse'], ['connection refused'], []],
    [
      'that is down is asked every second, until it is back',
      undefined,
      ['ill', 'refuse', 2_500, 'well', 60_000],
      ['connection refused', 'ill', 'up'],
      [1_000, 2_000, 3_000],
    ],
    [
      'that refuses again and again is asked once, and each reason told once',
      undefined,
      ['ill', 'refuse', 'refuse', 500, 'refuse', 500],
      ['connection refused', 'ill'],
      [1_000],
    ],
    [
      'that is back may refuse again',
      undefined,
      ['refuse', 1_000, 'refuse', 1_000],
      ['connection refused', 'up', 'connection refused', 'up'],
      [1_000, 2_000],
    ],
    [
      'with a check is asked from the start, in its interval',
      CHECK_MS,
      ['start', 10_000],
      [],
      [0, 5_000, 10_000],
    ],
    ['is not down for one failed check', CHECK_MS, ['ill', 'start', 4_999], [], [0]],
    [
      'is down for two failed checks in a row, and then asked every second',
      CHECK_MS,
      ['ill', 'start', 7_000],
      ['ill'],
      [0, 5_000, 6_000, 7_000],
    ],
    [
      'is not down for two failed checks with a good one between them',
      CHECK_MS,
      ['ill', 'start', 1, 'well', 5_000, 'ill', 5_000, 'well', 5_000],
      [],
      [0, 5_000, 10_000, 15_000],
    ],
    [
      'is back with one good check, and then asked in the interval again',
      CHECK_MS,
      ['ill', 'start', 5_500, 'well', 10_000],
      ['ill', 'up'],
      [0, 5_000, 6_000, 11_000],
    ],
    [
      'is down for two failures in a row again once it was back',
      CHECK_MS,
      ['ill', 'start', 5_500, 'well', 1_000, 'ill', 5_000],
      ['ill', 'up'],
      [0, 5_000, 6_000, 11_000],
    ],
    [
      'that refuses between two checks is down at once, and the check brings it back',
      CHECK_MS,
      ['start', 2_000, 'refuse', 6_000],
      ['connection refused', 'up'],
      [0, 3_000, 8_000],
    ],
    [
      'is not asked more seldom when it is down',
      200,
      ['ill', 'start', 500, 'well', 100],
      ['ill', 'up'],
      [0, 200, 400, 600],
    ],
  ];
  for (const [claim, checkMs, steps, told, asked] of rows) {
    test(claim, async (t) => {
      const setting = setUp(t, checkMs);
      for (const step of steps) {
        if (step === 'start') setting.health.start();
        else if (step === 'refuse') setting.health.noteRefused();
        else if (typeof step === 'number') await setting.clock.advance(step);
        else setting.app = step;
      }
      assert.deepEqual(setting.told, told);
      assert.deepEqual(setting.asked, asked);
      assert.equal(setting.health.isUp(), (told.at(-1) ?? 'up') === 'up');
    });
  }
});

test('what it says is the latest reason, and for how long', async (t) => {
  const setting = setUp(t, undefined);
  assert.deepEqual(setting.health.status(), { state: 'up' });
  setting.app = 'ill';
  setting.health.noteRefused();
  assert.deepEqual(setting.health.status(), {
    ...{ state: 'down', reason: 'connection refused', forMs: 0 },
  });
  await setting.clock.advance(1_500);
  assert.deepEqual(setting.health.status(), { state: 'down', reason: 'ill', forMs: 1_500 });
});

test('each reason of an outage is told once, however often it comes back, and again in the next', async (t) => {
  let reason: string | undefined = '301';
  const probe: Probe = () =>
    Promise.resolve(reason === undefined ? { kind: 'passed' } : { kind: 'failed', reason });
  const { health, clock, told } = setUp(t, CHECK_MS, probe);
  health.noteRefused();
  for (const next of ['301', '301', '503', '301', '503', undefined]) {
    reason = next;
    await clock.advance(1_000);
  }
  health.noteRefused();
  assert.deepEqual(told, ['connection refused', '301', '503', 'up', 'connection refused']);
});

test('a check that was under way when a request was refused does not bring the app back', async (t) => {
  const { promise, resolve } = Promise.withResolvers<ProbeOutcome>();
  const setting = setUp(t, CHECK_MS, () => promise);
  setting.health.start();
  setting.health.noteRefused();
  resolve({ kind: 'passed' });
  await setting.clock.advance(999);
  assert.equal(setting.health.isUp(), false);
  await setting.clock.advance(1);
  assert.deepEqual([setting.health.isUp(), setting.asked], [true, [0, 1_000]]);
});

test('a probe that takes long is waited for, and no second one begun', async (t) => {
  const { promise, resolve } = Promise.withResolvers<ProbeOutcome>();
  const setting = setUp(t, CHECK_MS, () => promise);
  setting.health.start();
  setting.health.noteRefused();
  await setting.clock.advance(60_000);
  assert.deepEqual(setting.asked, [0]);
  resolve({ kind: 'passed' });
});

for (const checkMs of [undefined, CHECK_MS]) {
  test(`after a stop nothing runs, ${checkMs ? 'with' : 'without'} a check`, async (t) => {
    const { health, clock, asked, told } = setUp(t, checkMs);
    health.start();
    health.noteRefused();
    await health.stop();
    health.noteRefused();
    assert.equal(clock.pendingCount(), 0);
    await clock.advance(60_000);
    assert.deepEqual(asked, checkMs ? [0] : []);
    assert.deepEqual(told, ['connection refused']);
  });
}
