/** The schema of `fly.toml`, as far as the doctor reads it. Its messages never show a value. */
import * as v from 'valibot';

const text = v.optional(v.string('a text'));
const number = v.optional(v.number('a number'));
const texts = v.optional(v.array(v.string('a list of texts'), 'a list of texts'), []);
const textOrNumber = v.optional(v.union([v.string(), v.number()], 'a text or a number'));

/** flyctl has long written `processes = []` for an empty table. */
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

/** By names that the file chooses. */
function named<Value extends v.GenericSchema>(value: Value) {
  const values = v.pipe(
    v.unknown(),
    v.transform((given) => (Array.isArray(given) && given.length === 0 ? {} : given)),
    v.check(isTable, 'a table'),
    v.record(v.string(), value),
  );
  return v.optional(values, {});
}

export function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `PORT = 8080` is as good as `PORT = "8080"`: flyctl makes texts of all of them. */
const ENV_VALUE = v.pipe(
  v.union([v.string(), v.number(), v.bigint(), v.boolean()], 'a text, a number, true or false'),
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
export const SERVICE = {
  concurrency: v.optional(table({ type: text, soft_limit: number, hard_limit: number }), {}),
  auto_stop_machines: v.optional(v.union([v.string(), v.boolean()], 'a text, true or false')),
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
    // Here flyctl takes digits as well, and in [http_service] it does not.
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

export type FlyTomlFile = v.InferOutput<typeof FileSchema>;

export interface ReadFile {
  readonly file: FlyTomlFile;
  /** A sentence for each value of another type than expected. */
  readonly misfits: readonly string[];
}

/** A value of another type is reported, and then counts as unset: the rest is read all the same. */
export function readFlyTomlFile(values: Record<string, unknown>): ReadFile {
  const misfits: string[] = [];
  for (;;) {
    const { success, output, issues } = v.safeParse(FileSchema, values);
    if (success) return { file: output, misfits };
    for (const issue of issues) {
      const path = (issue.path ?? []).map(({ key }) => key as string | number);
      // The value itself may be a secret in the wrong place.
      const name = path.filter((key) => typeof key === 'string').join('.');
      const misfit = `${name} must be ${issue.message}`;
      if (!misfits.includes(misfit)) misfits.push(misfit);
      removeAt(values, path);
    }
  }
}

/** The value at the path, or the whole list if it is an element of one. */
function removeAt(values: Record<string, unknown>, path: readonly (string | number)[]): void {
  const names = path.slice(0, path.findLastIndex((key) => typeof key === 'string') + 1);
  let parent: unknown = values;
  for (const key of names.slice(0, -1)) {
    // A single table stands for a list of one.
    if (typeof key === 'number' && !Array.isArray(parent)) continue;
    parent = (parent as Record<string | number, unknown> | undefined)?.[key];
  }
  const last = names.at(-1);
  if (parent !== undefined && last !== undefined) {
    Reflect.deleteProperty(parent as object, last);
  }
}
