/**
 * Parses the parts of `fly.toml` that matter to sessions
 * (https://fly.io/docs/reference/configuration/). Unset values are undefined or empty here; the
 * checks apply the defaults.
 */
import { parse, TomlError } from 'smol-toml';
import * as v from 'valibot';

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

// The schema. Its messages never show a value.

const text = v.optional(v.string('a string'));
const number = v.optional(v.number('a number'));
const texts = v.optional(v.array(v.string('a list of strings'), 'a list of strings'), []);
const textOrNumber = v.optional(v.union([v.string(), v.number()], 'a string or a number'));

/** Older versions of flyctl write `processes = []` for an empty table. */
function table<const Entries extends v.ObjectEntries>(entries: Entries) {
  return v.pipe(
    v.unknown(),
    v.transform((value) => (Array.isArray(value) && value.length === 0 ? {} : value)),
    v.check(isTable, 'a table'),
    v.object(entries),
  );
}

/** `[[name]]`, or a single `[name]`. */
function tables<const Entries extends v.ObjectEntries>(entries: Entries) {
  const expected = 'a table, or a list of tables';
  const each = v.pipe(v.unknown(), v.check(isTable, expected), v.object(entries));
  const list = v.pipe(
    v.unknown(),
    v.transform((value) => (isTable(value) ? [value] : value)),
    v.array(each, expected),
  );
  return v.optional(list, []);
}

/** A table whose keys the file chooses. */
function named<Value extends v.GenericSchema>(value: Value) {
  const values = v.pipe(
    v.unknown(),
    v.transform((given) => (Array.isArray(given) && given.length === 0 ? {} : given)),
    v.check(isTable, 'a table'),
    v.record(v.string(), value),
  );
  return v.optional(values, {});
}

function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) return false;
  // The parser returns a date as a `Date`.
  return !Array.isArray(value) && !(value instanceof Date);
}

/** flyctl accepts `PORT = 8080` and converts it to a string. */
const ENV_VALUE = v.pipe(
  v.union([v.string(), v.number(), v.bigint(), v.boolean()], 'a string, a number, true or false'),
  v.transform(String),
);
const CHECK = { type: text, port: number, path: text };
const HTTP_OPTIONS = v.optional(
  table({
    idle_timeout: number,
    replay_cache: tables({ type: text, name: text, ttl_seconds: number }),
  }),
  {},
);
const SERVICE = {
  concurrency: v.optional(table({ type: text, soft_limit: number, hard_limit: number }), {}),
  auto_stop_machines: v.optional(v.union([v.string(), v.boolean()], 'a string, true or false')),
  auto_start_machines: v.optional(v.boolean('true or false')),
  min_machines_running: number,
  processes: texts,
};
const MOUNT = { destination: text, processes: texts };

const FileSchema = v.object({
  app: text,
  env: named(ENV_VALUE),
  deploy: v.optional(table({ strategy: text }), {}),
  kill_signal: text,
  kill_timeout: textOrNumber,
  processes: named(v.unknown()),
  mount: tables(MOUNT),
  mounts: tables(MOUNT),
  http_service: v.optional(
    table({
      ...SERVICE,
      internal_port: number,
      http_options: HTTP_OPTIONS,
      checks: tables(CHECK),
    }),
    {},
  ),
  services: tables({
    ...SERVICE,
    // flyctl accepts a string of digits here, but not in [http_service].
    internal_port: v.optional(
      v.pipe(
        v.union([v.number(), v.pipe(v.string(), v.regex(/^\d{1,9}$/))], 'a number'),
        v.transform(Number),
      ),
    ),
    ports: tables({ handlers: texts, http_options: HTTP_OPTIONS }),
    http_checks: tables(CHECK),
    tcp_checks: tables(CHECK),
  }),
  checks: named(table(CHECK)),
  metrics: tables({ port: number, path: text }),
  vm: tables({ memory_mb: number, memory: textOrNumber }),
});

type FlyTomlFile = v.InferOutput<typeof FileSchema>;

interface ReadFile {
  readonly file: FlyTomlFile;
  /** One sentence for each value of the wrong type. */
  readonly typeErrors: readonly string[];
}

/** Reports a value of the wrong type and treats it as unset, so that the rest is read too. */
function readFlyTomlFile(values: Record<string, unknown>): ReadFile {
  const typeErrors: string[] = [];
  for (;;) {
    const { success, output, issues } = v.safeParse(FileSchema, values);
    if (success) return { file: output, typeErrors };
    for (const issue of issues) {
      const path = (issue.path ?? []).map(({ key }) => key as string | number);
      // Only the name: the value may be a secret in the wrong place.
      const name = path.filter((key) => typeof key === 'string').join('.');
      const typeError = `${name} must be ${issue.message}`;
      if (!typeErrors.includes(typeError)) typeErrors.push(typeError);
      removeAt(values, path);
    }
  }
}

/** Removes the value at the path, or the whole list if the value is an element of one. */
function removeAt(values: Record<string, unknown>, path: readonly (string | number)[]): void {
  const names = path.slice(0, path.findLastIndex((key) => typeof key === 'string') + 1);
  let parent: unknown = values;
  for (const key of names.slice(0, -1)) {
    // The file may have a single table where the schema has a list.
    if (typeof key === 'number' && !Array.isArray(parent)) continue;
    parent = (parent as Record<string | number, unknown> | undefined)?.[key];
  }
  const last = names.at(-1);
  if (parent !== undefined && last !== undefined) {
    Reflect.deleteProperty(parent as object, last);
  }
}
