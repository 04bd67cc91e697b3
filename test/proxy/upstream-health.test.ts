/** When the app counts as down, when it counts as up again, and when the sidecar probes it. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import {
  type Probe,
  type ProbeOutcome,
  createUpstreamHealth,
  type UpstreamHealth,
} from '../../src/proxy/upstream-health.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';

const CHECK_MS = 5_000;

interface Setting {
  readonly health: UpstreamHealth;
  readonly clock: TestClock;
  /** The outcome of the next probes. */
  app: 'healthy' | 'unhealthy';
  /** Times of the probes, in ms from the start. */
  readonly probedAt: number[];
  /** Reported status changes: `up`, or the reason of a failure. */
  readonly reported: string[];
}

function setUp(t: TestContext, checkMs: number | undefined, probe?: Probe): Setting {
  const clock = createTestClock();
  const countingProbe: Probe = (signal) => {
    setting.probedAt.push(clock.monotonicMs());
    const outcome: ProbeOutcome =
      setting.app === 'healthy' ? { kind: 'passed' } : { kind: 'failed', reason: 'unhealthy' };
    return probe ? probe(signal) : Promise.resolve(outcome);
  };
  const unusedProbe: Probe = () => assert.fail('the other probe should run');
  const health = createUpstreamHealth({
    clock,
    check: checkMs === undefined ? undefined : { probe: countingProbe, intervalMs: checkMs },
    connect: checkMs === undefined ? countingProbe : unusedProbe,
    onChange: (status) => setting.reported.push(status.state === 'up' ? 'up' : status.reason),
  });
  const setting: Setting = { health, clock, app: 'healthy', probedAt: [], reported: [] };
  t.after(() => health.stop());
  return setting;
}

/** One step: `refuse` is a refused connection, `healthy` and `unhealthy` set the app, a number advances the clock. */
type Step = 'start' | 'refuse' | 'healthy' | 'unhealthy' | number;

describe('the app', () => {
  const rows: readonly (readonly [
    claim: string,
    checkMs: number | undefined,
    steps: readonly Step[],
    reported: readonly string[],
    probedAt: readonly number[],
  ])[] = [
    [
      'is not probed while it is up and no check is configured',
      undefined,
      ['start', 60_000],
      [],
      [],
    ],
    [
      'is down as soon as it refuses a connection',
      undefined,
      ['refuse'],
      ['connection refused'],
      [],
    ],
    [
      'is probed every second while it is down',
      undefined,
      ['unhealthy', 'refuse', 2_500, 'healthy', 60_000],
      ['connection refused', 'unhealthy', 'up'],
      [1_000, 2_000, 3_000],
    ],
    [
      'is probed once, and each reason is reported once, when it refuses repeatedly',
      undefined,
      ['unhealthy', 'refuse', 'refuse', 500, 'refuse', 500],
      ['connection refused', 'unhealthy'],
      [1_000],
    ],
    [
      'goes down again when it refuses after a recovery',
      undefined,
      ['refuse', 1_000, 'refuse', 1_000],
      ['connection refused', 'up', 'connection refused', 'up'],
      [1_000, 2_000],
    ],
    [
      'is probed from the start, at the interval of the configured check',
      CHECK_MS,
      ['start', 10_000],
      [],
      [0, 5_000, 10_000],
    ],
    ['is not down after one failed check', CHECK_MS, ['unhealthy', 'start', 4_999], [], [0]],
    [
      'is down after two failed checks in a row, and then probed every second',
      CHECK_MS,
      ['unhealthy', 'start', 7_000],
      ['unhealthy'],
      [0, 5_000, 6_000, 7_000],
    ],
    [
      'is not down after two failed checks with a passed one between them',
      CHECK_MS,
      ['unhealthy', 'start', 1, 'healthy', 5_000, 'unhealthy', 5_000, 'healthy', 5_000],
      [],
      [0, 5_000, 10_000, 15_000],
    ],
    [
      'is up after one passed check, and then probed at the interval again',
      CHECK_MS,
      ['unhealthy', 'start', 5_500, 'healthy', 10_000],
      ['unhealthy', 'up'],
      [0, 5_000, 6_000, 11_000],
    ],
    [
      'needs two failures in a row again after a recovery',
      CHECK_MS,
      ['unhealthy', 'start', 5_500, 'healthy', 1_000, 'unhealthy', 5_000],
      ['unhealthy', 'up'],
      [0, 5_000, 6_000, 11_000],
    ],
    [
      'is down as soon as it refuses between two checks, and up after the next passed check',
      CHECK_MS,
      ['start', 2_000, 'refuse', 6_000],
      ['connection refused', 'up'],
      [0, 3_000, 8_000],
    ],
    [
      'is not probed less often while it is down',
      200,
      ['unhealthy', 'start', 500, 'healthy', 100],
      ['unhealthy', 'up'],
      [0, 200, 400, 600],
    ],
  ];
  for (const [claim, checkMs, steps, reported, probedAt] of rows) {
    test(claim, async (t) => {
      const setting = setUp(t, checkMs);
      for (const step of steps) {
        if (step === 'start') setting.health.start();
        else if (step === 'refuse') setting.health.noteRefused();
        else if (typeof step === 'number') await setting.clock.advance(step);
        else setting.app = step;
      }
      assert.deepEqual(setting.reported, reported);
      assert.deepEqual(setting.probedAt, probedAt);
      assert.equal(setting.health.isUp(), (reported.at(-1) ?? 'up') === 'up');
    });
  }
});

test('status() returns the latest reason and the duration', async (t) => {
  const setting = setUp(t, undefined);
  assert.deepEqual(setting.health.status(), { state: 'up' });
  setting.app = 'unhealthy';
  setting.health.noteRefused();
  assert.deepEqual(setting.health.status(), {
    ...{ state: 'down', reason: 'connection refused', forMs: 0 },
  });
  await setting.clock.advance(1_500);
  assert.deepEqual(setting.health.status(), { state: 'down', reason: 'unhealthy', forMs: 1_500 });
});

test('each reason is reported once per outage, even if it recurs', async (t) => {
  let reason: string | undefined = '301';
  const probe: Probe = () =>
    Promise.resolve(reason === undefined ? { kind: 'passed' } : { kind: 'failed', reason });
  const { health, clock, reported } = setUp(t, CHECK_MS, probe);
  health.noteRefused();
  for (const next of ['301', '301', '503', '301', '503', undefined]) {
    reason = next;
    await clock.advance(1_000);
  }
  health.noteRefused();
  assert.deepEqual(reported, ['connection refused', '301', '503', 'up', 'connection refused']);
});

test('a check that started before a refused connection does not mark the app up', async (t) => {
  const { promise, resolve } = Promise.withResolvers<ProbeOutcome>();
  const setting = setUp(t, CHECK_MS, () => promise);
  setting.health.start();
  setting.health.noteRefused();
  resolve({ kind: 'passed' });
  await setting.clock.advance(999);
  assert.equal(setting.health.isUp(), false);
  await setting.clock.advance(1);
  assert.deepEqual([setting.health.isUp(), setting.probedAt], [true, [0, 1_000]]);
});

test('no second probe starts while a slow one runs', async (t) => {
  const { promise, resolve } = Promise.withResolvers<ProbeOutcome>();
  const setting = setUp(t, CHECK_MS, () => promise);
  setting.health.start();
  setting.health.noteRefused();
  await setting.clock.advance(60_000);
  assert.deepEqual(setting.probedAt, [0]);
  resolve({ kind: 'passed' });
});

for (const checkMs of [undefined, CHECK_MS]) {
  test(`no probe runs after stop(), ${checkMs ? 'with' : 'without'} a check`, async (t) => {
    const { health, clock, probedAt, reported } = setUp(t, checkMs);
    health.start();
    health.noteRefused();
    await health.stop();
    health.noteRefused();
    assert.equal(clock.pendingCount(), 0);
    await clock.advance(60_000);
    assert.deepEqual(probedAt, checkMs ? [0] : []);
    assert.deepEqual(reported, ['connection refused']);
  });
}
