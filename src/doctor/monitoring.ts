/** Checks where health checks and metrics go: to the sidecar, or to the app by mistake. */
import type { Config } from '../config/config.ts';
import { groupsOf, groupsServedBy, processesFor } from './process-groups.ts';
import { error, fixable, note, ok, warning, type Finding } from './report.ts';
import type { FlyToml, HealthCheck } from './fly-toml.ts';
import { sidecarServices } from './service.ts';

export function checkMonitoring(toml: FlyToml, config: Config): Finding[] {
  return [
    ...checkReadiness(toml, config),
    ...sidecarServices(toml, config).flatMap(({ checks }) => checks.flatMap(checkServiceCheck)),
    ...checkMetrics(toml, config),
  ];
}

const ADMIN_PATHS: ReadonlySet<string | undefined> = new Set(['/readyz', '/livez', '/metrics']);

const STATUS_PATHS: ReadonlySet<string> = new Set(['/', '/status']);

function checkReadiness(toml: FlyToml, config: Config): Finding[] {
  const ofAdmin = toml.checks.filter(({ port }) => port === config.adminPort);
  const wrong = ofAdmin.filter(({ type, path }) => type === 'http' && !ADMIN_PATHS.has(path));
  const findings: Finding[] = wrong.map(({ name = '', path }) =>
    fixable(
      'error',
      `The check "${name}" requests ${path ?? '/'} on ADMIN_PORT.`,
      path === undefined || STATUS_PATHS.has(path)
        ? 'That path always gets 200, whether or not the sidecar is ready.'
        : 'That path does not exist there, so the check always fails.',
      [{ path: ['checks', name, 'path'], value: '/readyz' }],
    ),
  );
  findings.push(...ofAdmin.flatMap((check) => checkGroupsOfCheck(check, toml, config)));
  if (ofAdmin.some(({ path }) => path === '/readyz')) {
    return [...findings, ok('A check probes the readiness of the sidecar.')];
  }
  if (wrong.length > 0) return findings;
  return [
    fixable(
      'note',
      'No check probes the readiness of the sidecar.',
      'A deploy continues with the next Machine before this one is ready. Use a top-level check: a ' +
        'failing check of the service would also stop requests to a Machine that drains.',
      [{ path: ['checks', nameOfCheck(toml)], value: readinessCheck(toml, config) }],
    ),
  ];
}

/** A check for a group whose Machines run no sidecar. */
function checkGroupsOfCheck(
  { name = '', processes }: HealthCheck,
  toml: FlyToml,
  config: Config,
): Finding[] {
  const served = groupsServedBy(toml, sidecarServices(toml, config));
  const others = groupsOf(toml, processes).filter((group) => !served.includes(group));
  if (others.length === 0) return [];
  return [
    fixable(
      'error',
      `The check "${name}" probes the sidecar in the group ${others.join(', ')}, which no service of it reaches.`,
      'Without a sidecar there, the check always fails.',
      [{ path: ['checks', name, 'processes'], value: served }],
    ),
  ];
}

function nameOfCheck({ checks }: FlyToml): string {
  return checks.some(({ name }) => name === 'ready') ? 'fly_affinity' : 'ready';
}

function readinessCheck(toml: FlyToml, config: Config) {
  return {
    type: 'http',
    port: config.adminPort,
    method: 'get',
    path: '/readyz',
    grace_period: '10s',
    interval: '10s',
    timeout: '2s',
    ...processesFor(toml, groupsServedBy(toml, sidecarServices(toml, config))),
  };
}

/** A check of the service goes to its port, and so through the sidecar to the app. */
function checkServiceCheck({ type, path }: HealthCheck): Finding[] {
  if (type !== 'http') return [];
  if (ADMIN_PATHS.has(path)) {
    return [
      warning(
        `A check of the service requests ${path}.`,
        'The request goes to the app: the sidecar serves this path on ADMIN_PORT only.',
        'a top-level [checks.ready] with port and path',
      ),
    ];
  }
  return [
    note(
      `A check of the service requests ${path ?? '/'} from the app.`,
      'While the check fails, Fly Proxy sends no request to this Machine, not even for sessions it owns.',
    ),
  ];
}

function checkMetrics(toml: FlyToml, config: Config): Finding[] {
  const { adminPort } = config;
  const groups = groupsServedBy(toml, sidecarServices(toml, config));
  const found = toml.metrics.filter(({ processes }) =>
    groupsOf(toml, processes).some((group) => groups.includes(group)),
  );
  const own = found.find(({ port }) => port === adminPort);
  const what = 'fly.toml does not collect the metrics of the sidecar.';
  const why = 'They count replayed, forwarded and lost sessions, and show the status of the store.';
  if (!own && found.length > 0) {
    return [note(what, `${why} Fly.io collects from one port of a Machine, here from the app.`)];
  }
  const path = toml.metrics.length === 0 ? ['metrics'] : ['metrics', toml.metrics.length];
  const value = { port: adminPort, path: '/metrics', ...processesFor(toml, groups) };
  if (!own) return [fixable('note', what, why, [{ path, value }])];
  if (own !== found[0]) {
    return [
      note(
        what,
        `${why} Fly.io collects from one port of a Machine: the first [[metrics]] of its group.`,
        `[[metrics]]\n  port = ${adminPort}, as the first`,
      ),
    ];
  }
  if (own.path === undefined || own.path === '/metrics') {
    return [ok('Fly.io collects the metrics of the sidecar.')];
  }
  return [
    error(
      `[metrics] requests ${own.path} on ADMIN_PORT.`,
      'The metrics are at /metrics.',
      'path = "/metrics"',
    ),
  ];
}
