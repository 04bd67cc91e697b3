/** Checks the health checks and the metrics: which go to the sidecar, and which to the app by mistake. */
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
      `The check "${name}" requests ${path ?? '/'} on ADMIN_PORT.`,
      'That path does not exist there, so the check always fails.',
      `[checks.${name}]\n  path = "/readyz"`,
    ),
  );
  if (ofAdmin.some(({ path }) => path === '/readyz')) {
    return [...findings, ok('A check probes the readiness of the sidecar.')];
  }
  if (wrong.length > 0) return findings;
  return [
    note(
      'No check probes the readiness of the sidecar.',
      'A deploy continues with the next Machine before this one is ready. Use a top-level check: a ' +
        'failing check of the service would also stop requests to a Machine that drains.',
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

function checkMetrics({ metrics }: FlyToml, { adminPort }: Config): Finding[] {
  const own = metrics.find(({ port }) => port === adminPort);
  const lines = `[[metrics]]\n  port = ${adminPort}\n  path = "/metrics"`;
  if (!own) {
    return [
      note(
        'fly.toml does not collect the metrics of the sidecar.',
        'They count replayed, forwarded and lost sessions, and show the status of the store.',
        lines,
      ),
    ];
  }
  if (own.path === undefined || own.path === '/metrics') {
    return [ok('Fly.io collects the metrics of the sidecar.')];
  }
  return [
    error(`[metrics] requests ${own.path} on ADMIN_PORT.`, 'The metrics are at /metrics.', lines),
  ];
}
