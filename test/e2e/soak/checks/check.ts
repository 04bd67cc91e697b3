/** A checked claim about a run. */

export interface Check {
  readonly what: string;
  readonly expected: string;
  readonly found: string;
  readonly isMet: boolean;
}

export function atMost(what: string, found: number, limit: number, unit = ''): Check {
  const shown = (value: number): string =>
    `${Number.isInteger(value) ? value : value.toFixed(1)}${unit === '' ? '' : ` ${unit}`}`;
  return { what, expected: `at most ${shown(limit)}`, found: shown(found), isMet: found <= limit };
}

/** Nothing of this kind was found. */
export function none(what: string, found: readonly string[]): Check {
  return { what, expected: 'none', found: summaryOf(found), isMet: found.length === 0 };
}

export function isSame(what: string, found: string, expected: string): Check {
  return { what, expected, found, isMet: found === expected };
}

const MAX_SHOWN = 8;

function summaryOf(found: readonly string[]): string {
  if (found.length === 0) return 'none';
  const more = found.length > MAX_SHOWN ? `; ${found.length} in all` : '';
  return found.slice(0, MAX_SHOWN).join('; ') + more;
}
