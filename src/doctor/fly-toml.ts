/**
 * Parses the parts of `fly.toml` that matter to sessions
 * (https://fly.io/docs/reference/configuration/). Unset values are undefined or empty here; the
 * checks apply the defaults.
 */
import { parse, TomlError } from 'smol-toml';
import { isTable, readFlyTomlFile, type FlyTomlFile, type SERVICE } from './fly-toml-schema.ts';

export interface FlyToml {
  readonly app: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly strategy: string | undefined;
  readonly killSignal: string | undefined;
  readonly killTimeout: Duration;
  readonly processGroups: readonly string[];
  readonly mounts: readonly Mount[];
  readonly services: readonly Service[];
  /** Top-level checks, each with its own port. */
  readonly checks: readonly HealthCheck[];
  readonly metrics: readonly MetricsEndpoint[];
  /** Of the largest Machine. */
  readonly memoryMb: number | undefined;
  /** One sentence for each value of the wrong type. */
  readonly typeErrors: readonly string[];
}

export type Duration =
  | { readonly kind: 'unset' }
  | { readonly kind: 'set'; readonly ms: number }
  | { readonly kind: 'unreadable'; readonly text: string };

export interface Mount {
  readonly destination?: string | undefined;
  /** Empty: every group. */
  readonly processes: readonly string[];
}

export interface Service {
  readonly section: 'http_service' | 'services';
  readonly internalPort: number | undefined;
  readonly handlesHttp: boolean;
  readonly idleTimeoutSeconds: number | undefined;
  readonly concurrency: Concurrency;
  readonly autoStop: 'off' | 'stop' | 'suspend' | undefined;
  readonly autoStart: boolean | undefined;
  readonly minMachinesRunning: number | undefined;
  readonly checks: readonly HealthCheck[];
  readonly replayCaches: readonly ReplayCacheSection[];
  /** Empty: every group. */
  readonly processes: readonly string[];
}

export interface Concurrency {
  readonly type: string | undefined;
  readonly softLimit: number | undefined;
  readonly hardLimit: number | undefined;
}

export interface HealthCheck {
  /** Only top-level checks have one. */
  readonly name?: string | undefined;
  readonly type?: string | undefined;
  readonly port?: number | undefined;
  readonly path?: string | undefined;
}

export interface ReplayCacheSection {
  readonly type?: string | undefined;
  readonly name?: string | undefined;
  readonly ttlSeconds?: number | undefined;
}

export interface MetricsEndpoint {
  readonly port?: number | undefined;
  readonly path?: string | undefined;
}

export type ParsedFlyToml =
  | { readonly kind: 'parsed'; readonly toml: FlyToml }
  /** Names the position, and repeats nothing of the file. */
  | { readonly kind: 'mistake'; readonly mistake: string };

export function parseFlyToml(text: string): ParsedFlyToml {
  try {
    return { kind: 'parsed', toml: readToml(parse(text)) };
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [, what = 'not valid TOML'] =
      /^Invalid TOML document: ([^\n]*)/.exec(error.message) ?? [];
    return { kind: 'mistake', mistake: `line ${error.line}, column ${error.column}: ${what}` };
  }
}

function readToml(values: Record<string, unknown>): FlyToml {
  const { http_service: http } = values;
  const hasDefaultPort = !isTable(http) || http.internal_port === undefined;
  const { file, typeErrors } = readFlyTomlFile(values);
  const httpServices =
    http === undefined ? [] : [httpServiceFrom(file.http_service, hasDefaultPort)];
  return { ...tomlFrom(file, httpServices), typeErrors };
}

/** Fly.io's default for `[http_service]`. */
const DEFAULT_INTERNAL_PORT = 8080;

function tomlFrom(
  file: FlyTomlFile,
  httpServices: readonly Service[],
): Omit<FlyToml, 'typeErrors'> {
  return {
    app: file.app,
    env: file.env,
    strategy: file.deploy.strategy?.toLowerCase(),
    killSignal: file.kill_signal,
    killTimeout: durationIn(file.kill_timeout),
    processGroups: Object.keys(file.processes),
    mounts: [...file.mount, ...file.mounts],
    services: [...httpServices, ...file.services.map(serviceFrom)],
    checks: Object.entries(file.checks).map(([name, check]) => ({ ...check, name })),
    metrics: file.metrics,
    memoryMb: mostMemory(file.vm),
  };
}

/** `[http_service]` always has the http handler. */
function httpServiceFrom(http: FlyTomlFile['http_service'], hasDefaultPort: boolean): Service {
  return {
    ...commonFrom(http),
    section: 'http_service',
    internalPort: hasDefaultPort ? DEFAULT_INTERNAL_PORT : http.internal_port,
    handlesHttp: true,
    idleTimeoutSeconds: http.http_options.idle_timeout,
    checks: http.checks.map((check) => ({ ...check, name: undefined, type: 'http' })),
    replayCaches: http.http_options.replay_cache.map(replayCacheFrom),
  };
}

function serviceFrom(service: FlyTomlFile['services'][number]): Service {
  const options = service.ports.map((port) => port.http_options);
  const timeouts = options.flatMap((option) => option.idle_timeout ?? []);
  const ofType = (type: string) => (check: Omit<HealthCheck, 'name'>) => ({
    ...check,
    name: undefined,
    type,
  });
  return {
    ...commonFrom(service),
    section: 'services',
    internalPort: service.internal_port,
    handlesHttp: service.ports.some(({ handlers }) => handlers.includes('http')),
    idleTimeoutSeconds: timeouts.length === 0 ? undefined : Math.min(...timeouts),
    checks: [...service.http_checks.map(ofType('http')), ...service.tcp_checks.map(ofType('tcp'))],
    replayCaches: options.flatMap((option) => option.replay_cache.map(replayCacheFrom)),
  };
}

type Common = 'concurrency' | 'autoStop' | 'autoStart' | 'minMachinesRunning' | 'processes';

function commonFrom(
  service: Pick<FlyTomlFile['services'][number], keyof typeof SERVICE>,
): Pick<Service, Common> {
  const { type, soft_limit: softLimit, hard_limit: hardLimit } = service.concurrency;
  return {
    concurrency: { type, softLimit, hardLimit },
    autoStop: autoStopIn(service.auto_stop_machines),
    autoStart: service.auto_start_machines,
    minMachinesRunning: service.min_machines_running,
    processes: service.processes,
  };
}

/** The setting was true or false before Fly.io had "suspend". */
function autoStopIn(value: string | boolean | undefined): Service['autoStop'] {
  if (value === true || value === 'stop') return 'stop';
  if (value === false || value === 'off') return 'off';
  return value === 'suspend' ? 'suspend' : undefined;
}

type Cache =
  FlyTomlFile['services'][number]['ports'][number]['http_options']['replay_cache'][number];

function replayCacheFrom({ type, name, ttl_seconds: ttlSeconds }: Cache): ReplayCacheSection {
  return { type, name, ttlSeconds };
}

const MS_OF_UNIT = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
const MAX_DURATION_CHARACTERS = 9;

/** `30`, `"30"` and `"30s"` are the same; also Go durations such as `"1m30s"`. */
function durationIn(value: string | number | undefined): Duration {
  if (value === undefined) return { kind: 'unset' };
  if (typeof value === 'number' || /^\d{1,9}$/.test(value)) {
    return { kind: 'set', ms: Number(value) * MS_OF_UNIT.s };
  }
  const parts = [...value.matchAll(/(\d+)(ms|s|m|h)/g)];
  const isWhole = parts.length > 0 && parts.map(([part]) => part).join('') === value;
  if (!isWhole || value.length > MAX_DURATION_CHARACTERS)
    return { kind: 'unreadable', text: value };
  const msOf = ([, count, unit]: RegExpExecArray): number =>
    Number(count) * MS_OF_UNIT[unit as keyof typeof MS_OF_UNIT];
  return { kind: 'set', ms: parts.reduce((sum, part) => sum + msOf(part), 0) };
}

function mostMemory(machines: FlyTomlFile['vm']): number | undefined {
  const sizes = machines.flatMap(({ memory_mb: mb, memory }) => mb ?? memoryIn(memory) ?? []);
  return sizes.length === 0 ? undefined : Math.max(...sizes);
}

const MB_PER_GB = 1024;

/** `512`, `"512mb"`, `"2gb"`; in MB. */
function memoryIn(value: string | number | undefined): number | undefined {
  const [, size, unit] = /^(\d{1,7}) ?(mb?|gb?|)$/i.exec(String(value)) ?? [];
  if (size === undefined) return undefined;
  return Number(size) * (unit?.toLowerCase().startsWith('g') ? MB_PER_GB : 1);
}
