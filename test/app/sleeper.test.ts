/** What the sleeper does if a part of it fails in a way that the part promises not to. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Sleeper, type SleeperParts } from '../../src/app/sleeper.ts';
import { nullLogger } from '../../src/observability/log.ts';
import { nullMetrics } from '../../src/observability/metrics.ts';
import { createTestClock } from '../support/clock.ts';

const AFTER_MS = 10_000;

for (const part of ['findProblem', 'notifyPeers', 'suspend', 'reconnect', 'stopAccepting'] as const)
  test(`a fault of ${part} leaves the ports open, and is tried again later`, async (t) => {
    const clock = createTestClock();
    let [isOpen, attempts] = [true, 0];
    const fails = (): never => {
      throw new Error('a fault');
    };
    const parts: SleeperParts = {
      ...{ clock, logger: nullLogger, metrics: nullMetrics, suspendAfterMs: AFTER_MS },
      idleMs: () => AFTER_MS,
      whyAwake: () => undefined,
      findProblem: () => {
        attempts += 1;
        return part === 'findProblem' ? fails() : Promise.resolve(undefined);
      },
      suspend: () => Promise.resolve(undefined),
      notifyPeers: () => Promise.resolve(true),
      pauseSessions: () => Promise.resolve(true),
      resumeSessions: () => Promise.resolve(),
      stopAccepting: () => (isOpen = false),
      connectionCount: () => 0,
      acceptAgain: () => {
        isOpen = true;
        return Promise.resolve();
      },
      holdRequests: () => () => undefined,
      reconnect: () => undefined,
      askPeers: () => Promise.resolve(),
      ...(part === 'findProblem' ? {} : { [part]: fails }),
    };
    const sleeper = new Sleeper(parts);
    t.after(() => sleeper.stop());
    sleeper.start();
    await clock.advance(1_000);
    assert.deepEqual([isOpen, sleeper.status().state, attempts], [true, 'awake', 1]);
    await clock.advance(1.5 * AFTER_MS);
    assert.deepEqual([isOpen, sleeper.status().state, attempts], [true, 'awake', 2]);
  });
