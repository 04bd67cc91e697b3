/** The dashboard and the alert rules on a real Prometheus that scrapes three Machines in use. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { skipUnlessFound } from '../support/needed.ts';
import { parseAlerts, parseDashboard, queriesOf, type Query } from '../observability/monitoring.ts';
import type { ScenarioName } from './scenarios/main.ts';
import { openMcpSession } from './scenarios/mcp.ts';
import { startFleet, type Fleet } from './support/fleet.ts';
import { neededForPrometheus, startPrometheus, type Prometheus } from './support/prometheus.ts';
import { runScenario } from './support/run-scenario.ts';
import { until } from './support/until.ts';

/** A test that hangs ends, and stops its Machines. */
const TIMEOUT_MS = 240_000;
const RULE_FILE = fileURLToPath(new URL('../../src/observability/alerts.yaml', import.meta.url));
/** Replays, forwards (uploads), ended sessions, streams. */
const TRAFFIC: readonly ScenarioName[] = ['mcp', 'mcp-sse', 'rpc', 'cookie', 'upload'];
const CLIENTS = 3;

const ENV = {
  MAX_SESSIONS_PER_MACHINE: '1000',
  SESSION_STORE_CLEANUP_INTERVAL_MS: '500',
};

/** Panels that the traffic and the loss of a Machine must move: more than zero, with these labels. */
const MOVED: Readonly<Record<string, readonly string[]>> = {
  'Requests of clients': [],
  'Requests by protocol': ['protocol'],
  'Responses by status': ['status'],
  'Requests by Machine': ['instance', 'region'],
  Decisions: ['decision'],
  Reasons: ['why'],
  'Extra hops': [],
  'Failed replays': ['reason'],
  'Lost sessions': [],
  'New sessions': ['protocol'],
  'Ended sessions': ['why'],
  'Lost sessions by reason': ['why'],
  'Sessions out of reach': ['why'],
  'Requests served by protocol': ['protocol'],
  'Added by the sidecar': [],
  'First byte of the app': [],
  'First byte of a peer': [],
  'Store operations': ['operation'],
  'Store operations, 99 %': ['operation'],
  Versions: ['node', 'version'],
};

function testDashboard(program: string): void {
  test('the dashboard and the alerts of three Machines:', { timeout: TIMEOUT_MS }, async (t) => {
    const fleet = await startFleet(t, { hints: false, env: ENV });
    const ruleFile = RULE_FILE;
    const prometheus = await startPrometheus(t, { program, machines: fleet.machines, ruleFile });
    // A rate needs a value before and one after the traffic.
    await run(fleet);
    await untilScraped(prometheus);
    await run(fleet);
    await loseSession(fleet);

    await t.test('each query of each panel returns data, and the traffic is seen', async () => {
      const queries = queriesOf(parseDashboard().panels);
      assert.ok(queries.length > 40);
      const titles = new Set(queries.map(({ title }) => title));
      for (const title of Object.keys(MOVED)) assert.ok(titles.has(title), title);
      await until(async () => {
        const missing = await Promise.all(queries.map((query) => missingIn(prometheus, query)));
        return missing.filter((text) => text !== undefined);
      });
    });
    await t.test('each variable offers what the Machines have', async () => {
      const all = (key: 'app' | 'region' | 'id'): string[] =>
        [...new Set(fleet.machines.map((machine) => machine[key]))].sort();
      for (const { name, definition = '' } of parseDashboard().templating.list.slice(1)) {
        const [, selector = '', label = ''] = LABEL_VALUES.exec(definition) ?? [];
        const found = await prometheus.labelValues(label, filledIn(selector));
        assert.deepEqual(found, all(name === 'instance' ? 'id' : (name as 'app' | 'region')), name);
      }
    });
    await t.test('each alert is evaluated, and explains the lost Machine', async () => {
      const rules = await prometheus.rules();
      assert.equal(rules.length, parseAlerts().length);
      for (const { name, health, lastError } of rules)
        assert.equal(health, 'ok', `${name}: ${lastError}`);
      const active = rules.filter(({ alerts }) => alerts.length > 0);
      assert.ok(active.some(({ name }) => name === 'FlyAffinitySessionsUnavailable'));
      for (const { annotations } of active.flatMap(({ alerts }) => alerts))
        assert.doesNotMatch(Object.values(annotations).join(), /<error|no value|\$labels/);
    });
  });
}

async function run({ target }: Fleet): Promise<void> {
  for (const scenario of TRAFFIC) await runScenario({ scenario, target, times: CLIENTS });
}

async function untilScraped(prometheus: Prometheus): Promise<void> {
  const seen = 'sum by (protocol) (fly_affinity_client_requests_total) > 0';
  await until(async () => ((await prometheus.query(seen)).length > 3 ? [] : ['a scrape']));
}

/** First its Machine is unreachable, and then, once it is known to be gone, the session is lost. */
async function loseSession(fleet: Fleet): Promise<void> {
  const { target } = fleet;
  const session = await openMcpSession(target);
  const { machine: owner } = await session.call('count');
  const id = session.transport.sessionId ?? assert.fail('the session has an id');
  await session.client.close();
  await fleet.machine(owner).destroy();
  await until(async () => {
    const response = await fetch(`${target.url}/mcp`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-session-id': id,
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' }),
    });
    await response.body?.cancel();
    return response.status === 404 ? [] : [`a 404, not ${response.status}`];
  });
}

const LABEL_VALUES = /^label_values\((.*), (\w+)\)$/;

const VARIABLES: readonly (readonly [string, string])[] = [
  ['$__rate_interval', '2m'],
  ['$__range', '5m'],
  ['$region', '.*'],
  ['$instance', '.*'],
  ['app="$app"', 'app=~".+"'],
];

function filledIn(query: string): string {
  return VARIABLES.reduce((text, [name, value]) => text.replaceAll(name, value), query);
}

async function missingIn(
  prometheus: Prometheus,
  { title, expr, legendLabels }: Query,
): Promise<string | undefined> {
  const samples = await prometheus.query(filledIn(expr));
  for (const { metric } of samples)
    for (const label of legendLabels) assert.ok(metric[label], `${label} in "${title}"`);
  const numbers = samples.filter(({ value: [, value] }) => value !== 'NaN');
  const moved = MOVED[title];
  if (!moved) return numbers.length > 0 ? undefined : `data in "${title}": ${expr}`;
  const hasMoved = numbers.some(
    ({ metric, value: [, value] }) =>
      Number(value) > 0 && moved.every((label) => metric[label] !== undefined),
  );
  return hasMoved ? undefined : `more than zero in "${title}": ${expr}`;
}

skipUnlessFound(neededForPrometheus, testDashboard);
