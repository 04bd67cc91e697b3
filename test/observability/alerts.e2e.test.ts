/** The alert rules, as Prometheus's own tool reads and evaluates them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/clock.ts';
import { createMetrics } from '../../src/observability/prometheus.ts';
import { findProgram, skipUnlessFound } from '../support/needed.ts';
import { parseAlerts, type Alert } from './monitoring.ts';

const RULES = fileURLToPath(new URL('../../src/observability/alerts.yaml', import.meta.url));
/** Long enough for each alert to fire; one sample a minute. */
const MINUTES = 180;

/** The values of series by name, in promtool's notation: `0+3x10` is 0, 3, 6, and so on up to 30. */
type Series = Readonly<Record<string, string>>;

const up = (perMinute: number): string => `0+${perMinute}x${MINUTES}`;
const steady = (value: number): string => `${value}x${MINUTES}`;
const P = 'fly_affinity';
const CLIENT_REQUESTS = `${P}_client_requests_total{protocol="mcp",status="2xx"}`;

function decided(decision: string, why: string, perMinute: number): Series {
  return { [`${P}_requests_total{decision="${decision}",why="${why}"}`]: up(perMinute) };
}

/** All observations are between the two bounds, in seconds. */
function observed(name: string, above: number, upTo: number): Series {
  return {
    [series(name, `le="${above}"`)]: up(0),
    [series(name, `le="${upTo}"`)]: up(100),
    [series(name, 'le="+Inf"')]: up(100),
  };
}

function series(name: string, labels: string): string {
  return name.includes('{') ? name.replace('}', `,${labels}}`) : `${name}{${labels}}`;
}

const SIDECAR = `${P}_sidecar_seconds_bucket`;
const CLAIMS = `${P}_store_operation_seconds_bucket{operation="claim"}`;
const UNAVAILABLE = `${P}_unavailable_session_requests_total{why="owner-unreachable"}`;
const LOST = `${P}_lost_session_requests_total{why="app-restarted"}`;
const ERRORS = `${P}_client_requests_total{protocol="none",status="5xx"}`;
const FAILED_REPLAYS = `${P}_replays_failed_total{reason="timeout"}`;
const DROPPED = `${P}_store_write_back_total{result="dropped"}`;
const SILENT = `${P}_peers{state="silent"}`;
const LATE = 'nodejs_eventloop_delay_seconds{quantile="0.99"}';
const VERSIONS = [`${P}_build_info{version="1.0.0"}`, `${P}_build_info{version="1.1.0"}`] as const;
const DEPLOY = `1x30 _x${MINUTES}`;

/** With the first series an alert fires, with the second it does not. */
// prettier-ignore
const CASES: Readonly<Record<string, readonly [fires: Series, staysQuiet: Series]>> = {
  FlyAffinitySessionsUnavailable: [{ [UNAVAILABLE]: up(2), [CLIENT_REQUESTS]: up(100) }, { [UNAVAILABLE]: up(2), [CLIENT_REQUESTS]: up(300) }],
  FlyAffinitySessionsLost: [{ [LOST]: up(6), [CLIENT_REQUESTS]: up(100) }, { [LOST]: up(0.4), [CLIENT_REQUESTS]: up(1) }],
  FlyAffinityErrors: [{ [ERRORS]: up(6), [CLIENT_REQUESTS]: up(94) }, { [ERRORS]: up(4), [CLIENT_REQUESTS]: up(96) }],
  FlyAffinityAppDown: [{ [`${P}_upstream_up`]: steady(0) }, { [`${P}_upstream_up`]: steady(1) }],
  FlyAffinitySlow: [observed(SIDECAR, 0.05, 0.1), observed(SIDECAR, 0.0001, 0.00025)],
  FlyAffinityPeerSilent: [{ [SILENT]: steady(1) }, { [SILENT]: steady(0) }],
  FlyAffinityReplaysFail: [{ [FAILED_REPLAYS]: up(6), ...decided('replay', 'not-owner', 100) }, { [FAILED_REPLAYS]: up(4), ...decided('replay', 'not-owner', 100) }],
  FlyAffinityLoop: [decided('refuse', 'loop-detected', 1), decided('local', 'owner', 1)],
  FlyAffinityFull: [decided('elsewhere', 'full', 1), decided('elsewhere', 'draining', 1)],
  FlyAffinityDrained: [decided('elsewhere', 'draining', 1), decided('elsewhere', 'full', 1)],
  FlyAffinityClaimConflicts: [{ [`${P}_claim_conflicts_total`]: up(1) }, { [`${P}_claim_conflicts_total`]: `0x60 3x${MINUTES}` }],
  FlyAffinityAnnouncementsDropped: [{ [`${P}_announcements_dropped_total`]: up(5) }, { [`${P}_announcements_dropped_total`]: up(0) }],
  FlyAffinityVersionsDiffer: [{ [VERSIONS[0]]: steady(1), [VERSIONS[1]]: steady(1) }, { [VERSIONS[0]]: DEPLOY, [VERSIONS[1]]: steady(1) }],
  FlyAffinityStoreDegraded: [{ [`${P}_store_degraded`]: steady(1) }, { [`${P}_store_degraded`]: steady(0) }],
  FlyAffinityStoreWritesWait: [{ [`${P}_store_write_back_age_seconds`]: `0+60x${MINUTES}` }, { [`${P}_store_write_back_age_seconds`]: steady(290) }],
  FlyAffinityStoreWritesDropped: [{ [DROPPED]: `0x170 1x10` }, { [DROPPED]: `1x${MINUTES}` }],
  FlyAffinityStoreSlow: [observed(CLAIMS, 0.5, 2), observed(CLAIMS, 0.1, 0.5)],
  FlyAffinityOverloaded: [decided('refuse', 'overloaded', 1), decided('refuse', 'unknown-session', 1)],
  FlyAffinityConnectionsRefused: [{ [`${P}_connections_refused_total`]: up(1) }, { [`${P}_connections_refused_total`]: up(0) }],
  FlyAffinityConnectionFaults: [{ [`${P}_connection_faults_total`]: `0x170 1x10` }, { [`${P}_connection_faults_total`]: up(0) }],
  FlyAffinityEventLoopBusy: [{ [LATE]: steady(0.2) }, { [LATE]: steady(0.012) }],
  FlyAffinityFileDescriptors: [{ process_open_fds: steady(900), process_max_fds: steady(1000) }, { process_open_fds: steady(100), process_max_fds: steady(1000) }],
};

const FLY_LABELS = 'app="web",region="fra",instance="148e21ea7e5689"';

/** As many alerts of that name and state, or of any state, as `count` says: none has no sample. */
function expectAlerts(minute: number, { name }: Alert, state: string | undefined, count: number) {
  const matchers = `alertname="${name}"${state === undefined ? '' : `,alertstate="${state}"`}`;
  return {
    expr: `count(ALERTS{${matchers}})`,
    eval_time: `${minute}m`,
    exp_samples: count === 0 ? [] : [{ labels: '{}', value: count }],
  };
}

function testOf(name: string, given: Series, expected: readonly object[]): object {
  const input_series = Object.entries(given).map(([text, values]) => {
    return { series: series(text, FLY_LABELS), values };
  });
  return { name, interval: '1m', input_series, promql_expr_test: expected };
}

function testsOf(alert: Alert): readonly object[] {
  const [fires, staysQuiet] = CASES[alert.name] ?? assert.fail(`${alert.name} has no test`);
  const before = alert.forMinutes - 1;
  return [
    testOf(`${alert.name} fires`, fires, [
      ...(before >= 0 ? [expectAlerts(before, alert, 'firing', 0)] : []),
      expectAlerts(MINUTES - 5, alert, 'firing', 1),
    ]),
    testOf(`${alert.name} stays quiet`, staysQuiet, [
      expectAlerts(MINUTES - 5, alert, undefined, 0),
    ]),
  ];
}

function testAlerts(promtool: string): void {
  const run = (args: readonly string[], input?: string) => {
    const { status, stdout, stderr } = spawnSync(promtool, args, {
      encoding: 'utf8',
      ...(input !== undefined && { input }),
    });
    return { status, output: `${stdout}${stderr}` };
  };

  test('promtool finds no mistake in the rules', () => {
    const { status, output } = run(['check', 'rules', '--lint-fatal', RULES]);
    assert.equal(status, 0, output);
    assert.ok(output.includes(`${parseAlerts().length} rules found`), output);
  });

  describe('promtool fires', () => {
    for (const alert of parseAlerts()) {
      test(`${alert.name} after its time, and not before or without a cause`, (t) => {
        const directory = mkdtempSync(path.join(tmpdir(), 'fly-affinity-alerts-'));
        t.after(() => rmSync(directory, { recursive: true }));
        const file = path.join(directory, 'test.yaml');
        // JSON is YAML.
        const tests = testsOf(alert);
        writeFileSync(
          file,
          JSON.stringify({ rule_files: [RULES], evaluation_interval: '1m', tests }),
        );
        const { status, output } = run(['test', 'rules', file]);
        assert.equal(status, 0, output);
      });
    }
  });

  test('no test is left of an alert that was removed', () => {
    assert.deepEqual(
      Object.keys(CASES),
      parseAlerts().map(({ name }) => name),
    );
  });

  test('the names and units of all metrics follow the conventions of Prometheus', async (t) => {
    const metrics = createMetrics({ clock: systemClock, version: 'test' });
    t.after(() => metrics.close());
    metrics.ownSessions(() => 1);
    metrics.upstreamTime(1, 'app');
    metrics.storeOperationTime(1, 'claim');
    const { output } = run(['check', 'metrics'], await metrics.render());
    const complaints = new Set(output.split('\n').filter((line) => line !== ''));
    assert.deepEqual([...complaints], KNOWN_COMPLAINTS);
  });
}

/** The name and the label are an interface. */
const KNOWN_COMPLAINTS = [
  'nodejs_eventloop_delay_seconds non-summary metrics should not have "quantile" label',
];

skipUnlessFound(
  {
    what: 'the alert rules',
    found: findProgram(['promtool']),
    missing: 'promtool on the PATH',
    howToGet: 'apt-get install prometheus',
  },
  testAlerts,
);
