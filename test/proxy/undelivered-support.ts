/** Two complete sidecars and a session of the first: helpers for requests that the edge could not deliver to it. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { systemClock, type Clock } from '../../src/clock.ts';
import type { Environment } from '../../src/config/config.ts';
import { nullMetrics } from '../../src/observability/metrics.ts';
import { until } from '../fleet/support.ts';
import { openFleet, type TestFleet, type TestMachine } from '../support/fleet.ts';
import { serveApp } from '../support/sidecar.ts';

/** Timers never fire, so that a busy computer causes no timeout. */
export const patientClock: Clock = { ...systemClock, after: () => () => undefined };

export interface TwoMachines {
  readonly fleet: TestFleet;
  /** Owns the session `abc`. */
  readonly m1: TestMachine;
  readonly m2: TestMachine;
  /** Reasons of the failed replays that m2 counted. */
  readonly failed: string[];
  /** Sends a request of the session to m2. */
  readonly send: (headers?: Readonly<Record<string, string>>) => Promise<Response>;
}

export const SESSION = { 'mcp-session-id': 'abc' };
export const COULD_NOT_REACH_M1 = {
  'fly-replay-failed':
    'instance=m1;app=a;region=ams;replay_source=m2;reason=timeout;elapsed_ms=10000',
};

export async function startTwo(
  t: TestContext,
  env: Environment = {},
  clock: Clock = patientClock,
): Promise<TwoMachines> {
  const fleet = await openFleet(t, 'm1', 'm2');
  const failed: string[] = [];
  const metrics = { ...nullMetrics, replayFailed: (reason: string) => void failed.push(reason) };
  const start = async (id: string): Promise<TestMachine> => {
    const app = await serveApp(t, (req, res) => {
      if (req.url === '/open') res.setHeader('mcp-session-id', 'abc');
      res.end(id);
    });
    const settings = { SESSION_ID_HINTS: 'false', ...env };
    const parts = { clock, ...(id === 'm2' && { metrics }) };
    return fleet.start(id, app, settings, parts);
  };
  const [m1, m2] = [await start('m1'), await start('m2')];
  await fetch(`${m1.url}/open`, { method: 'POST' });
  const send: TwoMachines['send'] = (headers = {}) =>
    fetch(`${m2.url}/rpc`, { headers: { ...SESSION, ...headers }, redirect: 'manual' });
  await until(async () => (await replayOf(send())).startsWith('instance=m1'));
  return { fleet, m1, m2, failed, send };
}

export async function replayOf(pending: Promise<Response>): Promise<string> {
  const response = await pending;
  await response.text();
  return response.headers.get('fly-replay') ?? `none, but ${response.status}`;
}

export async function servedBy(pending: Promise<Response>): Promise<string> {
  const response = await pending;
  assert.equal(response.status, 200);
  return response.text();
}

export async function stopM1({ fleet, m1 }: TwoMachines): Promise<void> {
  await m1.sidecar.stop();
  fleet.lines.get('m1')?.leadTo(undefined);
}

export async function assertRetryLater(pending: Promise<Response>): Promise<void> {
  const response = await pending;
  assert.deepEqual([response.status, response.headers.get('retry-after')], [503, '1']);
  assert.equal(response.headers.get('fly-replay'), null);
}
