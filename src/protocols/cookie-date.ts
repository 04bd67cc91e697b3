/** The date of a cookie's `Expires`, which comes in many old forms (RFC 6265 §5.1.1). */

const DELIMITERS = /[\t\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+/;
const TIME = /^(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\D|$)/;
const DAY = /^(\d{1,2})(?:\D|$)/;
const YEAR = /^(\d{2,4})(?:\D|$)/;
const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];

/** ms since the epoch; `undefined` if it is no date. Always read as UTC, as the RFC wants. */
export function parseCookieDate(text: string): number | undefined {
  let time: RegExpExecArray | undefined;
  let day: number | undefined;
  let month: number | undefined;
  let year: number | undefined;
  for (const token of text.split(DELIMITERS)) {
    time ??= TIME.exec(token) ?? undefined;
    if (time?.input === token) continue;
    if (day === undefined && DAY.test(token)) day = parseInt(token, 10);
    else if (month === undefined && monthOf(token) !== undefined) month = monthOf(token);
    else if (year === undefined && YEAR.test(token)) year = fullYear(parseInt(token, 10));
  }
  if (!time || day === undefined || month === undefined || year === undefined) return undefined;
  return toEpoch({ year, month, day, time: time.slice(1).map(Number) });
}

function monthOf(token: string): number | undefined {
  const index = MONTHS.indexOf(token.slice(0, 3).toLowerCase());
  return index === -1 ? undefined : index;
}

function fullYear(year: number): number {
  if (year >= 100) return year;
  return year >= 70 ? year + 1900 : year + 2000;
}

interface Fields {
  readonly year: number;
  readonly month: number;
  readonly day: number;
  readonly time: readonly number[];
}

function toEpoch({ year, month, day, time }: Fields): number | undefined {
  const [hour = 0, minute = 0, second = 0] = time;
  if (year < 1601 || day < 1 || day > 31) return undefined;
  if (hour > 23 || minute > 59 || second > 59) return undefined;
  const ms = Date.UTC(year, month, day, hour, minute, second);
  // February has no 31st; `Date.UTC` would take it for March.
  return new Date(ms).getUTCDate() === day ? ms : undefined;
}
