/**
 * Reads the parts of `fly.toml` that matter to sessions
 * (https://fly.io/docs/reference/configuration/). Unset values are undefined or empty here; the
 * checks apply the defaults. `fly.json` and `fly.yaml` have the same keys.
 */
import { parse, TomlError } from 'smol-toml';
import { isTable, valueAt, type ValuePath } from './change.ts';
import { durationIn, memoryIn, type Duration } from './fly-units.ts';
import { readFlyTomlFile, type FlyTomlFile } from './fly-toml-schema.ts';

export interface FlyToml {
  readonly app: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly strategy: string | undefined;
  readonly killSignal: string | undefined;
  readonly killTimeout: Duration;
  /** The names in `[processes]`; empty: the only group is `app`. */
  readonly processGroups: readonly string[];
  /** The command of each group that has one. */
  readonly commands: Readonly<Record<string, string>>;
  readonly mounts: readonly Mount[];
  readonly services: readonly Service[];
  /** Top-level checks, each with its own port. */
  readonly checks: readonly HealthCheck[];
  readonly metrics: readonly MetricsEndpoint[];
  readonly machines: readonly MachineSize[];
  readonly swapMb: number;
  readonly build: Build;
  /** Whether a Machine has several containers, and where they are described. */
  readonly containers: 'compose' | 'machine_config' | undefined;
  /** `[experimental]` replaces the command of the image. */
  readonly replacesCommand: boolean;
  /** One sentence for each value of the wrong type. */
  readonly typeErrors: readonly string[];
}

export interface MachineSize {
  readonly memoryMb: number | undefined;
  readonly hasGpu: boolean;
  /** Empty: every group. */
  readonly processes: readonly string[];
}

interface Build {
  readonly image: string | undefined;
  readonly builder: string | undefined;
  readonly dockerfile: string | undefined;
  /** The stage of the Dockerfile; undefined: the last. */
  readonly target: string | undefined;
}

/* Where `processes` is empty, Fly.io takes the default group: see process-groups.ts. */

export interface Mount {
  readonly source?: string | undefined;
  readonly destination?: string | undefined;
  readonly processes: readonly string[];
}

export interface Service {
  /** Where the service is in the file. */
  readonly path: ValuePath;
  /** Where those of its ports are that have the http handler. */
  readonly httpPorts: readonly ValuePath[];
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
  readonly processes: readonly string[];
}

interface Concurrency {
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
  readonly processes?: readonly string[];
}

export interface ReplayCacheSection {
  readonly type?: string | undefined;
  readonly name?: string | undefined;
  readonly ttlSeconds?: number | undefined;
}

interface MetricsEndpoint {
  readonly port?: number | undefined;
  readonly path?: string | undefined;
  readonly processes: readonly string[];
}

export type ParsedFlyToml =
  | {
      readonly kind: 'parsed';
      readonly toml: FlyToml;
      readonly values: Readonly<Record<string, unknown>>;
    }
  /** Names the position, and repeats nothing of the file. */
  | { readonly kind: 'mistake'; readonly mistake: string };

export function parseFlyToml(text: string): ParsedFlyToml {
  try {
    const values = parse(text);
    return { kind: 'parsed', toml: readFlyValues(values), values };
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [, what = 'not valid TOML'] =
      /^Invalid TOML document: ([^\n]*)/.exec(error.message) ?? [];
    return { kind: 'mistake', mistake: `line ${error.line}, column ${error.column}: ${what}` };
  }
}

/** `values`: of a whole file. */
export function readFlyValues(values: Readonly<Record<string, unknown>>): FlyToml {
  const { file, typeErrors } = readFlyTomlFile(structuredClone(values));
  const services = [
    ...(values.http_service === undefined ? [] : [httpServiceFrom(file.http_service, values)]),
    ...file.services.map((service, index) => serviceFrom(service, index, values.services)),
  ];
  return { ...tomlFrom(file), services, typeErrors };
}

function tomlFrom(file: FlyTomlFile): Omit<FlyToml, 'typeErrors' | 'services'> {
  const { build, experimental } = file;
  return {
    app: file.app,
    env: file.env,
    strategy: file.deploy.strategy?.toLowerCase(),
    killSignal: file.kill_signal,
    killTimeout: durationIn(file.kill_timeout),
    processGroups: Object.keys(file.processes),
    commands: commandsIn(file.processes),
    mounts: [...file.mount, ...file.mounts],
    checks: Object.entries(file.checks).map(([name, check]) => ({ ...check, name })),
    metrics: file.metrics,
    machines: file.vm.map(machineFrom),
    swapMb: file.swap_size_mb ?? 0,
    build: {
      image: build.image,
      builder: build.builder,
      dockerfile: build.dockerfile,
      target: build['build-target'],
    },
    containers: containersIn(file),
    replacesCommand: experimental.entrypoint !== undefined || experimental.exec !== undefined,
  };
}

function commandsIn(processes: Readonly<Record<string, unknown>>): Record<string, string> {
  const commands = Object.entries(processes).filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string',
  );
  return Object.fromEntries(commands);
}

function containersIn({
  build,
  experimental,
  machine_config: config,
}: FlyTomlFile): FlyToml['containers'] {
  if (build.compose !== undefined) return 'compose';
  return (config ?? experimental.machine_config) === undefined ? undefined : 'machine_config';
}

/** Fly.io's default for `[http_service]`. */
const DEFAULT_INTERNAL_PORT = 8080;

/** `[http_service]` always has the http handler. */
function httpServiceFrom(
  http: FlyTomlFile['http_service'],
  { http_service: given }: Readonly<Record<string, unknown>>,
): Service {
  const hasDefaultPort = !isTable(given) || given.internal_port === undefined;
  return {
    ...commonFrom(http),
    path: ['http_service'],
    httpPorts: [],
    section: 'http_service',
    internalPort: hasDefaultPort ? DEFAULT_INTERNAL_PORT : http.internal_port,
    handlesHttp: true,
    idleTimeoutSeconds: http.http_options.idle_timeout,
    checks: http.checks.map((check) => ({ ...check, name: undefined, type: 'http' })),
    replayCaches: http.http_options.replay_cache.map(replayCacheFrom),
  };
}

function serviceFrom(
  service: FlyTomlFile['services'][number],
  index: number,
  given: unknown,
): Service {
  const path = elementPath(['services'], index, given);
  const ports = valueAt(given, isTable(given) ? ['ports'] : [index, 'ports']);
  const httpPorts = service.ports.flatMap(({ handlers }, port) =>
    handlers.includes('http') ? [elementPath([...path, 'ports'], port, ports)] : [],
  );
  const options = service.ports.map((port) => port.http_options);
  const timeouts = options.flatMap((option) => option.idle_timeout ?? []);
  const ofType = (type: string) => (check: Omit<HealthCheck, 'name'>) => ({
    ...check,
    name: undefined,
    type,
  });
  return {
    ...commonFrom(service),
    path,
    httpPorts,
    section: 'services',
    internalPort: service.internal_port,
    handlesHttp: httpPorts.length > 0,
    idleTimeoutSeconds: timeouts.length === 0 ? undefined : Math.min(...timeouts),
    checks: [...service.http_checks.map(ofType('http')), ...service.tcp_checks.map(ofType('tcp'))],
    replayCaches: options.flatMap((option) => option.replay_cache.map(replayCacheFrom)),
  };
}

/** A file may have a single table where it could have a list. */
function elementPath(path: ValuePath, index: number, given: unknown): ValuePath {
  return isTable(given) ? path : [...path, index];
}

type Common = 'concurrency' | 'autoStop' | 'autoStart' | 'minMachinesRunning' | 'processes';

function commonFrom(
  service: FlyTomlFile['services'][number] | FlyTomlFile['http_service'],
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

/** In MB: https://fly.io/docs/about/pricing/#started-fly-machines */
const MEMORY_OF_CPU = { shared: 256, performance: 2048 };
const SIZE = /^(shared|performance)(?:-cpu)?-(\d{1,2})x$/;

function machineFrom({
  size,
  memory_mb: mb,
  memory,
  ...rest
}: FlyTomlFile['vm'][number]): MachineSize {
  const [, kind, cpus] = SIZE.exec(size ?? '') ?? [];
  const ofSize =
    kind === undefined
      ? undefined
      : MEMORY_OF_CPU[kind as keyof typeof MEMORY_OF_CPU] * Number(cpus);
  return {
    memoryMb: mb ?? memoryIn(memory) ?? ofSize,
    hasGpu: rest.gpu_kind !== undefined || rest.gpus !== undefined,
    processes: rest.processes,
  };
}
