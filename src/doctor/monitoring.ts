/** Health checks and metrics: who asks the sidecar, and who asks the app by mistake. */
import type { Config } from '../config/config.ts';
import { error, note, ok, warning, type Finding } from './report.ts';
import type { HealthCheck, FlyToml } from './fly-toml.ts';
import { sidecarServices } from './service.ts';

export function checkMonitoring(toml: FlyToml, config: Config): Finding[] {
  return [
    ...checkReadiness(toml, config),
    ...sidecarServices(toml, config).flatMap(({ checks }) => checks.flatMap(checkServiceCheck)),
    ...checkMetrics(toml, config),
  ];
}

const ADMIN_PATHS: ReadonlySet<string | undefined> = new Set(['/readyz', '/livez', '/metrics']);

function checkReadiness({ checks }: FlyToml, { adminPort }: Config): Finding[] {
  const ofAdmin = checks.filter(({ port }) => port === adminPort);
  const wrong = ofAdmin.filter(({ type, path }) => type === 'http' && !ADMIN_PATHS.has(path));
  const findings: Finding[] = wrong.map(({ name, path }) =>
    error(
      `The check "${name}" asks ADMIN_PORT for ${path ?? '/'}.`,
      'There is no such path there, so the check always fails.',
      `[checks.${name}]\n  path = "/readyz"`,
    ),
  );
  if (ofAdmin.some(({ path }) => path === '/readyz')) {
    return [...findings, ok('A check asks whether the sidecar is ready.')];
  }
  if (wrong.length > 0) return findings;
  return [
    note(
      'No check asks whether the sidecar is ready.',
      'A deploy goes on to the next Machine before this one takes sessions. As a check of its own, ' +
        'not of the service, it takes no request away from a Machine that drains.',
      readinessLines(adminPort),
    ),
  ];
}

function readinessLines(port: number): string {
  return (
    `[checks.ready]\n  type = "http"\n  port = ${port}\n  method = "get"\n  path = "/readyz"\n` +
    '  grace_period = "10s"\n  interval = "10s"\n  timeout = "2s"'
  );
}

/** It goes to the service's port, and so through the sidecar to the app. */
function checkServiceCheck({ type, path }: HealthCheck): Finding[] {
  if (type !== 'http') return [];
  if (ADMIN_PATHS.has(path)) {
    return [
      warning(
        `A check of the service asks for ${path}.`,
        'It asks the app, as the sidecar takes no path away from it: its own answer is on ADMIN_PORT.',
        'a top-level [checks.ready] with port and path',
      ),
    ];
  }
  return [
    note(
      `A check of the service asks the app for ${path ?? '/'}.`,
      'While it fails, Fly Proxy sends nothing to this Machine, not even for the sessions that it has.',
    ),
  ];
}

function checkMetrics({ metrics }: FlyToml, { adminPort }: Config): Finding[] {
  const own = metrics.find(({ port }) => port === adminPort);
  const lines = `[[metrics]]\n  port = ${adminPort}\n  path = "/metrics"`;
  if (!own) {
    return [
      note(
        'Nobody collects the metrics of the sidecar.',
        'They tell how many sessions were replayed, forwarded or lost, and how the store fares.',
        lines,
      ),
    ];
  }
  if (own.path === undefined || own.path === '/metrics') {
    return [ok('Fly.io collects the metrics of the sidecar.')];
  }
  return [
    error(`[metrics] asks ADMIN_PORT for ${own.path}.`, 'The metrics are at /metrics.', lines),
  ];
}
