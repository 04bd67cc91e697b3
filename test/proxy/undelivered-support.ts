/** Two whole sidecars and a session of the first, for what the edge could not deliver to it. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { systemClock, type Clock } from '../../src/clock.ts';
import type { Environment } from '../../src/config/config.ts';
import { nullMetrics } from '../../src/observability/metrics.ts';
import { until } from '../fleet/support.ts';
import { openFleet, type TestFleet, type TestMachine } from '../support/fleet.ts';
import { serveApp } from '../support/sidecar.ts';

/** No question is over time: what is tested here is not how busy the computer is. */
export const patientClock: Clock = { ...systemClock, after: () => () => undefined };

export interface Opened {
  readonly fleet: TestFleet;
  /** Has the session `abc`. */
  readonly m1: TestMachine;
  readonly m2: TestMachine;
  /** Reasons for which m2 has counted failed replays. */
  readonly failed: string[];
  /** Asks m2, in the session's name. */
  readonly ask: (headers?: Readonly<Record<string, string>>) => Promise<Response>;
}

export const SESSION = { 'mcp-session-id': 'abc' };
export const COULD_NOT_REACH_M1 = {
  'fly-replay-failed':
    'instance=m1;app=a;region=ams;replay_source=m2;reason=timeout;elapsed_ms=10000',
};

export async function open(
  t: TestContext,
  env: Environment = {},
  clock: Clock = patientClock,
): Promise<Opened> {
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
  const ask: Opened['ask'] = (headers = {}) =>
    fetch(`${m2.url}/rpc`, { headers: { ...SESSION, ...headers }, redirect: 'manual' });
  await until(async () => (await replayOf(ask())).startsWith('instance=m1'));
  return { fleet, m1, m2, failed, ask };
}

export async function replayOf(answering: Promise<Response>): Promise<string> {
  const answer = await answering;
  await answer.text();
  return answer.headers.get('fly-replay') ?? `none, but ${answer.status}`;
}

export async function servedBy(answering: Promise<Response>): Promise<string> {
  const answer = await answering;
  assert.equal(answer.status, 200);
  return answer.text();
}

export async function leave({ fleet, m1 }: Opened): Promise<void> {
  await m1.sidecar.stop();
  fleet.lines.get('m1')?.leadTo(undefined);
}

export async function isToldToTryAgain(answering: Promise<Response>): Promise<void> {
  const answer = await answering;
  assert.deepEqual([answer.status, answer.headers.get('retry-after')], [503, '1']);
  assert.equal(answer.headers.get('fly-replay'), null);
}
