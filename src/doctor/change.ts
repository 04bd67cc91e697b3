/** Changes of a Fly.io configuration file, as data: `fly.toml`, `fly.json` and `fly.yaml` have the same keys. */

export type Value =
  string | number | boolean | readonly Value[] | { readonly [key: string]: Value };

/** Keys, and indices of lists. An index that is the length of a list appends to it. */
export type ValuePath = readonly (string | number)[];

/** Sets the value at a path, and creates the tables that lead there. */
export interface Change {
  readonly path: ValuePath;
  readonly value: Value;
}

export function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) return false;
  // The parser returns a date as a `Date`.
  return !Array.isArray(value) && !(value instanceof Date);
}

export function valueAt(values: unknown, path: ValuePath): unknown {
  return path.reduce<unknown>((parent, key) => {
    if (Array.isArray(parent)) return (parent as unknown[])[Number(key)];
    return isTable(parent) && Object.hasOwn(parent, key) ? parent[key] : undefined;
  }, values);
}

/** A value with the tables and lists that lead to it. */
export function nested(path: ValuePath, value: Value): Value {
  return path.reduceRight<Value>(
    (inner, key) => (typeof key === 'number' ? [inner] : { [key]: inner }),
    value,
  );
}

/** A copy with the changes made. */
export function withChanges<Values>(values: Values, changes: readonly Change[]): Values {
  return changes.reduce<unknown>(
    (changed, { path, value }) => withValueAt(changed, path, value),
    values,
  ) as Values;
}

function withValueAt(parent: unknown, [key, ...rest]: ValuePath, value: unknown): unknown {
  if (key === undefined) return value;
  if (typeof key === 'number') {
    const items: readonly unknown[] = Array.isArray(parent) ? parent : [];
    return Object.assign([...items], { [key]: withValueAt(items[key], rest, value) });
  }
  const table = isTable(parent) ? parent : {};
  return { ...table, [key]: withValueAt(table[key], rest, value) };
}

/** The changes as lines of a `fly.toml`, for people: elements of lists have no number there. */
export function tomlLines(changes: readonly Change[]): string {
  const lines: string[] = [];
  let lastHeader = '';
  for (const { path, value } of changes.flatMap(leavesOf)) {
    const header = headerOf(path.slice(0, -1));
    if (header !== lastHeader) lines.push(header);
    lastHeader = header;
    lines.push(`${header === '' ? '' : '  '}${tomlKey(String(path.at(-1)))} = ${tomlValue(value)}`);
  }
  return lines.join('\n');
}

/** The same changes, each of a value that is no table. */
export function leavesOf({ path, value }: Change): Change[] {
  if (!isTable(value)) return [{ path, value }];
  return Object.entries(value).flatMap(([key, inner]) =>
    leavesOf({ path: [...path, key], value: inner }),
  );
}

/** `[a.b]`, or `[[a.b]]` for an element of a list. */
export function headerOf(path: ValuePath): string {
  if (path.length === 0) return '';
  const name = path
    .filter((key) => typeof key === 'string')
    .map(tomlKey)
    .join('.');
  return typeof path.at(-1) === 'number' ? `[[${name}]]` : `[${name}]`;
}

export function tomlKey(key: string): string {
  return /^[\w-]+$/.test(key) ? key : JSON.stringify(key);
}

/** On one line. The escapes of JSON are those of TOML, DEL aside. */
export function tomlValue(value: Value): string {
  if (Array.isArray(value)) return `[${value.map(tomlValue).join(', ')}]`;
  if (isTable(value)) {
    const pairs = Object.entries(value).map(
      ([key, inner]) => `${tomlKey(key)} = ${tomlValue(inner)}`,
    );
    return `{ ${pairs.join(', ')} }`;
  }
  return JSON.stringify(value);
}
