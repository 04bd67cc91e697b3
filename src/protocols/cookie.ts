/** Cookies read in place: finds where a value is, so that the bytes around it stay as they are. */
import type { Span } from './heads.ts';
import type { Clock } from '../clock.ts';

/**
 * Where the next value of that name is in a `Cookie` header, from position `from` on, without its
 * quotes (RFC 6265 §4.2.1). A `from` within a pair skips the rest of it.
 */
export function findCookieValue(header: string, name: string, from: number): Span | undefined {
  for (let start = startOfPair(header, from); start < header.length;) {
    const end = endOfPair(header, start);
    const value = valueOfPair(header, name, { start, end });
    if (value) return value;
    start = end + 1;
  }
  return undefined;
}

/** Where the value is in a `Set-Cookie` line, if it sets that cookie, without its quotes. */
export function findSetCookieValue(line: string, name: string): Span | undefined {
  return valueOfPair(line, name, { start: 0, end: endOfPair(line, 0) });
}

/**
 * Whether a `Set-Cookie` line removes its cookie: `Max-Age` of zero or less, else `Expires` in the
 * past. The last attribute of a name counts; a malformed one does not (RFC 6265 §5.2, §5.3).
 */
export function isExpiringSetCookie(line: string, clock: Clock): boolean {
  let maxAge: string | undefined;
  let expiresAt: number | undefined;
  for (const attribute of line.split(';').slice(1)) {
    const [name = '', value = ''] = attribute.split('=', 2).map((part) => part.trim());
    if (name.toLowerCase() === 'max-age' && /^-?\d+$/.test(value)) maxAge = value;
    if (name.toLowerCase() === 'expires') expiresAt = parseCookieDate(value) ?? expiresAt;
  }
  if (maxAge !== undefined) return Number(maxAge) <= 0;
  return expiresAt !== undefined && expiresAt <= clock.now();
}

function startOfPair(header: string, from: number): number {
  return from === 0 ? 0 : endOfPair(header, from) + 1;
}

function endOfPair(text: string, start: number): number {
  const mark = text.indexOf(';', start);
  return mark === -1 ? text.length : mark;
}

function valueOfPair(text: string, name: string, pair: Span): Span | undefined {
  const nameStart = skipSpaces(text, pair.start);
  if (!text.startsWith(name, nameStart)) return undefined;
  const equals = skipSpaces(text, nameStart + name.length);
  if (equals >= pair.end || text[equals] !== '=') return undefined;
  return withoutQuotes(text, trimmed(text, { start: equals + 1, end: pair.end }));
}

function skipSpaces(text: string, from: number): number {
  let at = from;
  while (isSpace(text[at])) at += 1;
  return at;
}

function trimmed(text: string, { start, end }: Span): Span {
  const first = Math.min(skipSpaces(text, start), end);
  let last = end;
  while (last > first && isSpace(text[last - 1])) last -= 1;
  return { start: first, end: last };
}

function withoutQuotes(text: string, span: Span): Span {
  const isQuoted =
    span.end - span.start >= 2 && text[span.start] === '"' && text[span.end - 1] === '"';
  return isQuoted ? { start: span.start + 1, end: span.end - 1 } : span;
}

function isSpace(character: string | undefined): boolean {
  return character === ' ' || character === '\t';
}

const DELIMITERS = /[\t\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+/;
const TIME = /^(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\D|$)/;
const DAY = /^(\d{1,2})(?:\D|$)/;
const YEAR = /^(\d{2,4})(?:\D|$)/;
const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];

/**
 * The date of `Expires`, which comes in many old forms (RFC 6265 §5.1.1): ms since the epoch, `undefined` if
 * it is no date. Always read as UTC, as the RFC wants.
 */
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

interface DateFields {
  readonly year: number;
  readonly month: number;
  readonly day: number;
  readonly time: readonly number[];
}

function toEpoch({ year, month, day, time }: DateFields): number | undefined {
  const [hour = 0, minute = 0, second = 0] = time;
  if (year < 1601 || day < 1 || day > 31) return undefined;
  if (hour > 23 || minute > 59 || second > 59) return undefined;
  const ms = Date.UTC(year, month, day, hour, minute, second);
  // February has no 31st; `Date.UTC` would take it for March.
  return new Date(ms).getUTCDate() === day ? ms : undefined;
}
