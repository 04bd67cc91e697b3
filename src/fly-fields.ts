/** The fields of a Fly header: `name=value` separated by `;`, a value with separators in quotes. */

export type Field = readonly [name: string, value: string | number | undefined];

export function formatFields(fields: readonly Field[]): string {
  return fields
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${formatValue(String(value))}`)
    .join(';');
}

/** A list must be quoted: `region="iad,any"`. */
function formatValue(value: string): string {
  const safe = value.replace(/[^\x20-\x7e]|["\\]/g, '');
  return /[;,\s]/.test(safe) ? `"${safe}"` : safe;
}

/** Names and values around `=`, quotes taken off. The first field of a name counts. */
export function parseFields(text: string, separator: ';' | ','): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  for (const part of splitOutsideQuotes(text, separator)) {
    const equals = part.indexOf('=');
    const name = part.slice(0, equals).trim().toLowerCase();
    const value = withoutQuotes(part.slice(equals + 1).trim());
    if (equals > 0 && value !== '' && !fields.has(name)) fields.set(name, value);
  }
  return fields;
}

/** Some of Fly.io's own samples separate by commas. */
export function separatorOf(text: string): ';' | ',' {
  return text.includes(';') ? ';' : ',';
}

function splitOutsideQuotes(text: string, separator: ';' | ','): string[] {
  const parts: string[] = [];
  let start = 0;
  let isQuoted = false;
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] === '"') isQuoted = !isQuoted;
    if (text[at] !== separator || isQuoted) continue;
    parts.push(text.slice(start, at));
    start = at + 1;
  }
  parts.push(text.slice(start));
  return parts;
}

function withoutQuotes(value: string): string {
  return /^".*"$/s.test(value) && value.length >= 2 ? value.slice(1, -1) : value;
}

/** A whole number that is exact. */
export function parseCount(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,16}$/.test(text)) return undefined;
  const count = Number(text);
  return Number.isSafeInteger(count) ? count : undefined;
}

export function oneOf<Value extends string>(
  values: readonly Value[],
  text: string | undefined,
): Value | undefined {
  return values.find((value) => value === text);
}

/** The property if there is a value, else none at all (`exactOptionalPropertyTypes`). */
export function given<Name extends string, Value>(
  name: Name,
  value: Value | undefined,
): Partial<Record<Name, Value>> {
  return value === undefined ? {} : ({ [name]: value } as Record<Name, Value>);
}
