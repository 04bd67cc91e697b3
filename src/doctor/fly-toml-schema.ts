/** The schema of a Fly.io configuration file. Its messages never show a value. */
import * as v from 'valibot';
import { isTable } from './change.ts';

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

/** flyctl accepts `PORT = 8080` and converts it to a string. */
const ENV_VALUE = v.pipe(
  v.union([v.string(), v.number(), v.bigint(), v.boolean()], 'a string, a number, true or false'),
  v.transform(String),
);
const CHECK = { type: text, port: number, path: text };
const TOP_LEVEL_CHECK = { ...CHECK, processes: texts };
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
const MOUNT = { source: text, destination: text, processes: texts };
const METRICS = { port: number, path: text, processes: texts };
const any = v.optional(v.unknown());

const FileSchema = v.object({
  app: text,
  env: named(ENV_VALUE),
  build: v.optional(
    table({
      image: text,
      builder: text,
      dockerfile: text,
      'build-target': text,
      compose: any,
    }),
    {},
  ),
  experimental: v.optional(table({ entrypoint: any, exec: any, machine_config: any }), {}),
  machine_config: any,
  swap_size_mb: number,
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
  checks: named(table(TOP_LEVEL_CHECK)),
  metrics: tables(METRICS),
  vm: tables({
    size: text,
    memory_mb: number,
    memory: textOrNumber,
    gpu_kind: text,
    gpus: any,
    processes: texts,
  }),
});

export type FlyTomlFile = v.InferOutput<typeof FileSchema>;

interface ReadFile {
  readonly file: FlyTomlFile;
  /** One sentence for each value of the wrong type. */
  readonly typeErrors: readonly string[];
}

/** Reports a value of the wrong type and treats it as unset, so that the rest is read too. */
export function readFlyTomlFile(values: Record<string, unknown>): ReadFile {
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
