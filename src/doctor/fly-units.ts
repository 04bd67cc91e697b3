/** Durations and sizes as flyctl accepts them. */

export type Duration =
  | { readonly kind: 'unset' }
  | { readonly kind: 'set'; readonly ms: number }
  | { readonly kind: 'unreadable'; readonly text: string };

const MS_OF_UNIT = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
const MAX_DURATION_CHARACTERS = 9;

/** `30`, `"30"` and `"30s"` are the same; also Go durations such as `"1m30s"`. */
export function durationIn(value: string | number | undefined): Duration {
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

const MB_PER_GB = 1024;

/** `512`, `"512mb"`, `"2gb"`; in MB. */
export function memoryIn(value: string | number | undefined): number | undefined {
  const [, size, unit] = /^(\d{1,7}) ?(mb?|gb?|)$/i.exec(String(value)) ?? [];
  if (size === undefined) return undefined;
  return Number(size) * (unit?.toLowerCase().startsWith('g') ? MB_PER_GB : 1);
}
