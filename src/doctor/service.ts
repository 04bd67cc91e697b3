/** Checks the way from Fly Proxy to the sidecar: ports, handlers, limits on open streams. */
import type { Config } from '../config/config.ts';
import type { Change } from './change.ts';
import { error, fixable, ok, type Finding } from './report.ts';
import type { FlyToml, Service } from './fly-toml.ts';

export function checkServices(toml: FlyToml, config: Config): Finding[] {
  const ports = checkPorts(toml, config);
  const limits = sidecarServices(toml, config).flatMap((service) => [
    ...checkHandlers(service),
    ...checkIdleTimeout(service, config),
    ...checkConcurrency(service),
  ]);
  return [...ports, ...limits];
}

/** The services that reach the sidecar. Without any, the first one: its other lines are checked too. */
export function sidecarServices(toml: FlyToml, config: Config): readonly Service[] {
  const reaching = reachingServices(toml, config);
  return reaching.length > 0 ? reaching : toml.services.slice(0, 1);
}

function reachingServices({ services }: FlyToml, { port }: Config): readonly Service[] {
  return services.filter(({ internalPort }) => internalPort === port);
}

function checkPorts(toml: FlyToml, config: Config): Finding[] {
  const { services } = toml;
  if (services.length === 0) {
    return [
      error(
        'fly.toml has neither [http_service] nor [[services]].',
        'Fly Proxy sends no request to this app, and cannot replay requests.',
        `[http_service]\n  internal_port = ${config.port}`,
      ),
    ];
  }
  const findings = services.flatMap((service) => checkPort(service, config));
  const isReached = reachingServices(toml, config).length > 0;
  if (isReached)
    return [ok(`Fly Proxy sends requests to the sidecar (${config.port}).`), ...findings];
  if (findings.length > 0) return findings;
  return services.slice(0, 1).map((service) => missesSidecar(service, config));
}

/** A service for another port is no mistake, unless it exposes the app or an internal port. */
function checkPort(service: Service, config: Config): Finding[] {
  const { internalPort, section } = service;
  if (internalPort === config.port) return [];
  if (internalPort === portOf(config.upstreamUrl)) {
    return [
      error(
        `internal_port of ${section} is ${internalPort}, where the app listens.`,
        'Requests bypass the sidecar, so they are never routed to the owner of their session.',
        `${portLines(section, config.port)}\n${OR_INIT}`,
      ),
    ];
  }
  if (internalPort === config.peerPort || internalPort === config.adminPort) {
    const name = internalPort === config.peerPort ? 'PEER_PORT' : 'ADMIN_PORT';
    return [
      error(
        `internal_port of ${section} is ${internalPort}, which is ${name}.`,
        'That port is for the private network only, and the service opens it to the internet.',
        portLines(section, config.port),
      ),
    ];
  }
  return section === 'http_service' ? [missesSidecar(service, config)] : [];
}

function missesSidecar({ section, internalPort }: Service, { port }: Config): Finding {
  return error(
    `internal_port of ${section} is ${internalPort ?? 'not set'}, but PORT of the sidecar is ${port}.`,
    'No request from Fly Proxy reaches the sidecar.',
    `${portLines(section, port)}\n${OR_INIT}`,
  );
}

const OR_INIT =
  'or, if the app has no sidecar yet, run fly-affinity init: it makes all these changes';

function portLines(section: Service['section'], port: number): string {
  return `${headOf(section)}\n  internal_port = ${port}`;
}

function headOf(section: Service['section']): string {
  return section === 'http_service' ? '[http_service]' : '[[services]]';
}

function portOf(url: URL): number {
  return url.port === '' ? 80 : Number(url.port);
}

function checkHandlers({ handlesHttp }: Service): Finding[] {
  if (handlesHttp) return [];
  return [
    error(
      'The service of the sidecar has no port with the http handler.',
      'Without it Fly Proxy only passes bytes through, and ignores fly-replay in a response.',
      '[[services.ports]]\n  port = 443\n  handlers = ["tls", "http"]',
    ),
  ];
}

/** Two tool calls are often minutes apart; a shorter timeout cuts SSE streams in normal use. */
const SHORT_IDLE_SECONDS = 300;
const GOOD_IDLE_SECONDS = 3600;

function checkIdleTimeout(
  { idleTimeoutSeconds, section, path, httpPorts }: Service,
  config: Config,
): Finding[] {
  if (idleTimeoutSeconds !== undefined && idleTimeoutSeconds >= SHORT_IDLE_SECONDS) {
    return [ok(`Fly Proxy keeps idle streams for ${idleTimeoutSeconds} s.`)];
  }
  const what =
    idleTimeoutSeconds === undefined
      ? 'idle_timeout is not set; the default of Fly Proxy is about one minute.'
      : `idle_timeout is ${idleTimeoutSeconds} seconds.`;
  const why =
    'Fly Proxy cuts a stream that is idle for longer, such as SSE between two tool calls.';
  const places = section === 'http_service' ? [path] : httpPorts;
  const fix = places.map((place) => ({
    path: [...place, 'http_options', 'idle_timeout'],
    value: GOOD_IDLE_SECONDS,
  }));
  const hasStreams = config.protocols.some(({ isMcp }) => isMcp);
  return [fixable(hasStreams ? 'warning' : 'note', what, why, fix)];
}

/** A Machine that is not busy can have this many open streams. */
const LOW_HARD_LIMIT = 1_000;
const LOW_SOFT_LIMIT = 100;
/** As in our own `fly.toml`; the hard limit fits a Machine with 512 MB. */
const GOOD_LIMITS = { soft: 500, hard: 2_000 };
const DEFAULT_SOFT_LIMIT = 20;

function checkConcurrency({ concurrency, path }: Service): Finding[] {
  const { type = 'connections', softLimit = DEFAULT_SOFT_LIMIT, hardLimit } = concurrency;
  const isSoftLow = softLimit < LOW_SOFT_LIMIT;
  const soft = isSoftLow ? GOOD_LIMITS.soft : softLimit;
  const limits: readonly (readonly [string, Change['value']])[] = [
    ['type', 'requests'],
    ...(isSoftLow ? ([['soft_limit', soft]] as const) : []),
    ['hard_limit', Math.max(GOOD_LIMITS.hard, soft)],
  ];
  const fix = limits.map(([key, value]) => ({ path: [...path, 'concurrency', key], value }));
  const findings: Finding[] = [];
  if (type !== 'requests') {
    findings.push(
      fixable(
        'warning',
        `The concurrency type is "${type}".`,
        'Fly Proxy then opens one connection for each client connection, and also counts idle ones. ' +
          'Open streams count with either type.',
        fix,
      ),
    );
  }
  if (hardLimit !== undefined && hardLimit < softLimit) {
    findings.push(
      fixable(
        'error',
        `hard_limit (${hardLimit}) is below soft_limit (${softLimit}).`,
        'A Machine is full before Fly Proxy counts it as busy, so Fly Proxy never prefers a less busy one.',
        fix,
      ),
    );
  } else if (hardLimit !== undefined && hardLimit < LOW_HARD_LIMIT) {
    findings.push(
      fixable(
        'warning',
        `hard_limit is ${hardLimit}.`,
        'An open stream counts until it ends. At the hard limit a Machine gets no more requests, not ' +
          'even for sessions that it owns.',
        fix,
      ),
    );
  }
  if (isSoftLow) {
    findings.push(
      fixable(
        'note',
        `soft_limit is ${softLimit}${concurrency.softLimit === undefined ? ' (the default)' : ''}.`,
        'Open streams count: above the limit Fly Proxy starts more Machines, and prefers them to this one.',
        fix,
      ),
    );
  }
  return findings.length > 0
    ? findings
    : [ok(`The concurrency limits allow for open streams (${type}).`)];
}
