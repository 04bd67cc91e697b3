/**
 * `fly.toml`, as far as it matters to sessions
 * (https://fly.io/docs/reference/configuration/). What is not set is undefined or empty here: what
 * that means is said where it is looked at.
 */
import { parse, TomlError } from 'smol-toml';
import { TomlTable } from './toml-table.ts';

export interface FlyToml {
  readonly app: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly strategy: string | undefined;
  readonly killSignal: string | undefined;
  readonly killTimeout: Duration;
  readonly processGroups: readonly string[];
  readonly mounts: readonly Mount[];
  readonly services: readonly Service[];
  /** Those of no service, with ports of their own. */
  readonly checks: readonly HealthCheck[];
  readonly metrics: readonly MetricsEndpoint[];
  /** Of the largest Machine. */
  readonly memoryMb: number | undefined;
  /** Values of another type than expected, a sentence each. */
  readonly misfits: readonly string[];
}

export type Duration =
  | { readonly kind: 'unset' }
  | { readonly kind: 'set'; readonly ms: number }
  | { readonly kind: 'unreadable'; readonly text: string };

export interface Mount {
  readonly destination: string | undefined;
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
  /** Of a top-level one. */
  readonly name: string | undefined;
  readonly type: string | undefined;
  readonly port: number | undefined;
  readonly path: string | undefined;
}

export interface ReplayCacheSection {
  readonly type: string | undefined;
  readonly name: string | undefined;
  readonly ttlSeconds: number | undefined;
}

export interface MetricsEndpoint {
  readonly port: number | undefined;
  readonly path: string | undefined;
}

export type ParsedFlyToml =
  | { readonly kind: 'parsed'; readonly toml: FlyToml }
  /** Says where, and repeats nothing of the file. */
  | { readonly kind: 'mistake'; readonly mistake: string };

export function parseFlyToml(text: string): ParsedFlyToml {
  try {
    return { kind: 'parsed', toml: readFile(parse(text)) };
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [, what = 'it is not TOML'] =
      /^Invalid TOML document: ([^\n]*)/.exec(error.message) ?? [];
    return { kind: 'mistake', mistake: `line ${error.line}, column ${error.column}: ${what}` };
  }
}

function readFile(values: Readonly<Record<string, unknown>>): FlyToml {
  const misfits: string[] = [];
  const file = new TomlTable(values, misfits);
  const services = [
    ...(file.has('http_service') ? [readHttpService(file.table('http_service'))] : []),
    ...file.tables('services').map(readService),
  ];
  const checks = file.table('checks');
  return {
    app: file.text('app'),
    env: readEnv(file.table('env')),
    strategy: file.table('deploy').text('strategy')?.toLowerCase(),
    killSignal: file.text('kill_signal'),
    killTimeout: durationIn(file.textOrNumber('kill_timeout')),
    processGroups: file.table('processes').names(),
    mounts: [...file.tables('mount'), ...file.tables('mounts')].map((mount) => ({
      destination: mount.text('destination'),
      processes: mount.texts('processes'),
    })),
    services,
    checks: checks.names().map((name) => readCheck(checks.table(name), name)),
    metrics: file.tables('metrics').map((metrics) => ({
      port: metrics.number('port'),
      path: metrics.text('path'),
    })),
    memoryMb: mostMemory(file.tables('vm')),
    misfits,
  };
}

/** `PORT = 8080` is as good as `PORT = "8080"`: flyctl makes texts of all of them. */
function readEnv(table: TomlTable): Record<string, string> {
  const entries = table.names().flatMap((name) => {
    const value = table.textOfAny(name);
    return value === undefined ? [] : [[name, value] as const];
  });
  return Object.fromEntries(entries);
}

/** What `[http_service]` listens on unless told. */
const DEFAULT_INTERNAL_PORT = 8080;

/** Always has the http handler. */
function readHttpService(table: TomlTable): Service {
  const options = table.table('http_options');
  return {
    ...readCommon(table),
    section: 'http_service',
    internalPort: table.has('internal_port')
      ? table.number('internal_port')
      : DEFAULT_INTERNAL_PORT,
    handlesHttp: true,
    idleTimeoutSeconds: options.number('idle_timeout'),
    checks: table.tables('checks').map((check) => ({ ...readCheck(check), type: 'http' })),
    replayCaches: options.tables('replay_cache').map(readReplayCache),
  };
}

function readService(table: TomlTable): Service {
  const ports = table.tables('ports');
  const options = ports.map((port) => port.table('http_options'));
  const timeouts = options.flatMap((option) => option.number('idle_timeout') ?? []);
  return {
    ...readCommon(table),
    section: 'services',
    // Here flyctl takes digits as well, and in [http_service] it does not.
    internalPort: table.numberOrDigits('internal_port'),
    handlesHttp: ports.some((port) => port.texts('handlers').includes('http')),
    idleTimeoutSeconds: timeouts.length === 0 ? undefined : Math.min(...timeouts),
    checks: [
      ...table.tables('http_checks').map((check) => ({ ...readCheck(check), type: 'http' })),
      ...table.tables('tcp_checks').map((check) => ({ ...readCheck(check), type: 'tcp' })),
    ],
    replayCaches: options.flatMap((option) => option.tables('replay_cache').map(readReplayCache)),
  };
}

type Common = 'concurrency' | 'autoStop' | 'autoStart' | 'minMachinesRunning' | 'processes';

function readCommon(table: TomlTable): Pick<Service, Common> {
  const concurrency = table.table('concurrency');
  return {
    concurrency: {
      type: concurrency.text('type'),
      softLimit: concurrency.number('soft_limit'),
      hardLimit: concurrency.number('hard_limit'),
    },
    autoStop: autoStopIn(table.textOrBoolean('auto_stop_machines')),
    autoStart: table.boolean('auto_start_machines'),
    minMachinesRunning: table.number('min_machines_running'),
    processes: table.texts('processes'),
  };
}

/** It was true or false before there was "suspend". */
function autoStopIn(value: string | boolean | undefined): Service['autoStop'] {
  if (value === true || value === 'stop') return 'stop';
  if (value === false || value === 'off') return 'off';
  return value === 'suspend' ? 'suspend' : undefined;
}

function readCheck(table: TomlTable, name?: string): HealthCheck {
  const [type, port, path] = [table.text('type'), table.number('port'), table.text('path')];
  return { name, type, port, path };
}

function readReplayCache(table: TomlTable): ReplayCacheSection {
  return {
    type: table.text('type'),
    name: table.text('name'),
    ttlSeconds: table.number('ttl_seconds'),
  };
}

const MS_OF_UNIT = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
const MAX_DURATION_CHARACTERS = 9;

/** `30`, `"30"` and `"30s"` are the same; Go's durations as in `"1m30s"`. */
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

function mostMemory(machines: readonly TomlTable[]): number | undefined {
  const sizes = machines.flatMap((vm) => {
    const ownMb = vm.has('memory_mb')
      ? vm.number('memory_mb')
      : memoryIn(vm.textOrNumber('memory'));
    return ownMb ?? [];
  });
  return sizes.length === 0 ? undefined : Math.max(...sizes);
}

const MB_PER_GB = 1024;

/** `512`, `"512mb"`, `"2gb"`; in MB. */
function memoryIn(value: string | number | undefined): number | undefined {
  const [, size, unit] = /^(\d{1,7}) ?(mb?|gb?|)$/i.exec(String(value)) ?? [];
  if (size === undefined) return undefined;
  return Number(size) * (unit?.toLowerCase().startsWith('g') ? MB_PER_GB : 1);
}
