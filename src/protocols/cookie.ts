/** Cookies read in place: where a value is, so that the bytes around it stay as they are. */
import type { Clock } from '../clock.ts';
import { parseCookieDate } from './cookie-date.ts';
import type { Span } from './span.ts';

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
 * past. The last attribute of a name counts, a malformed one does not (RFC 6265 §5.2, §5.3).
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
