/** The way from Fly Proxy to the sidecar: ports, handlers, and what cuts or refuses open streams. */
import type { Config } from '../config/config.ts';
import { error, note, ok, warning, type Finding } from './report.ts';
import type { FlyToml, Service } from './fly-toml.ts';

export function checkServices(toml: FlyToml, config: Config): Finding[] {
  const ways = checkPorts(toml, config);
  const reached = sidecarServices(toml, config).flatMap((service) => [
    ...checkHandlers(service),
    ...checkIdleTimeout(service, config),
    ...checkConcurrency(service),
  ]);
  return [...ways, ...reached];
}

/** Those that lead to the sidecar, or the one that was meant to: its other lines count all the same. */
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
        'There is neither [http_service] nor [[services]].',
        'Fly Proxy sends no request to this app, and replays need Fly Proxy.',
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

/** A service beside the sidecar is nobody's mistake, unless it leads where it must not. */
function checkPort(service: Service, config: Config): Finding[] {
  const { internalPort, section } = service;
  if (internalPort === config.port) return [];
  if (internalPort === portOf(config.upstreamUrl)) {
    return [
      error(
        `internal_port of ${section} is ${internalPort}, where the app listens.`,
        'What goes round the sidecar is never routed to the Machine of its session.',
        portLines(section, config.port),
      ),
    ];
  }
  if (internalPort === config.peerPort || internalPort === config.adminPort) {
    const name = internalPort === config.peerPort ? 'PEER_PORT' : 'ADMIN_PORT';
    return [
      error(
        `internal_port of ${section} is ${internalPort}, which is ${name}.`,
        'That port is for the private network, and would be open to the internet.',
        portLines(section, config.port),
      ),
    ];
  }
  return section === 'http_service' ? [missesSidecar(service, config)] : [];
}

function missesSidecar({ section, internalPort }: Service, { port }: Config): Finding {
  return error(
    `internal_port of ${section} is ${internalPort ?? 'not set'}, and PORT of the sidecar is ${port}.`,
    'Nothing that comes from Fly Proxy reaches the sidecar.',
    portLines(section, port),
  );
}

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
      'Without it Fly Proxy passes bytes through, and sees no fly-replay in an answer.',
      '[[services.ports]]\n  port = 443\n  handlers = ["tls", "http"]',
    ),
  ];
}

/** Two tool calls may be so far apart; shorter ones cut SSE streams in everyday use. */
const SHORT_IDLE_SECONDS = 300;
const GOOD_IDLE_SECONDS = 3600;

function checkIdleTimeout({ idleTimeoutSeconds, section }: Service, config: Config): Finding[] {
  if (idleTimeoutSeconds !== undefined && idleTimeoutSeconds >= SHORT_IDLE_SECONDS) {
    return [ok(`A stream may be silent for ${idleTimeoutSeconds} s.`)];
  }
  const what =
    idleTimeoutSeconds === undefined
      ? "idle_timeout is not set, and Fly Proxy's own is about a minute."
      : `idle_timeout is ${idleTimeoutSeconds} seconds.`;
  const why = 'A stream that is silent for longer is cut: SSE often is, between two tool calls.';
  const options =
    section === 'http_service' ? '[http_service.http_options]' : '[services.ports.http_options]';
  const instead = `${options}\n  idle_timeout = ${GOOD_IDLE_SECONDS}`;
  const hasStreams = config.protocols.some(({ isMcp }) => isMcp);
  return [hasStreams ? warning(what, why, instead) : note(what, why, instead)];
}

/** Open streams of a Machine that is not busy at all. */
const LOW_HARD_LIMIT = 1_000;
const LOW_SOFT_LIMIT = 100;
/** As in `fly.toml`: the hard limit fits a Machine of 512 MB. */
const GOOD_LIMITS = { soft: 500, hard: 2_000 };
const DEFAULT_SOFT_LIMIT = 20;

function checkConcurrency({ concurrency, section }: Service): Finding[] {
  const { type = 'connections', softLimit = DEFAULT_SOFT_LIMIT, hardLimit } = concurrency;
  const instead =
    `[${section}.concurrency]\n  type = "requests"\n` +
    `  soft_limit = ${GOOD_LIMITS.soft}\n  hard_limit = ${GOOD_LIMITS.hard}`;
  const findings: Finding[] = [];
  if (type !== 'requests') {
    findings.push(
      warning(
        `Load is measured in ${type}.`,
        'Fly Proxy then opens a connection for each of its own, and counts those that are idle. An ' +
          'open stream counts either way.',
        instead,
      ),
    );
  }
  if (hardLimit !== undefined && hardLimit < softLimit) {
    findings.push(
      error(
        `hard_limit (${hardLimit}) is below soft_limit (${softLimit}).`,
        'A Machine is closed before it is said to be busy, so that none is preferred to another.',
        instead,
      ),
    );
  } else if (hardLimit !== undefined && hardLimit < LOW_HARD_LIMIT) {
    findings.push(
      warning(
        `hard_limit is ${hardLimit}.`,
        'An open stream counts as long as it lives. At the hard limit a Machine gets no request ' +
          'more, not even for the sessions that only it has.',
        instead,
      ),
    );
  }
  if (softLimit < LOW_SOFT_LIMIT) {
    findings.push(
      note(
        `soft_limit is ${softLimit}${concurrency.softLimit === undefined ? ', as it is not set' : ''}.`,
        'Open streams count: above it Fly Proxy starts more Machines, and prefers those to this one.',
        instead,
      ),
    );
  }
  return findings.length > 0 ? findings : [ok(`The limits leave room for open streams (${type}).`)];
}
