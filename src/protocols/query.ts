/**
 * The query of a request-target or URL, read in place: no URL object, and the bytes around a value stay as
 * they are. `&` separates pairs (URL standard, "urlencoded parsing"). A `+` stands for itself, as in unescaped
 * base64: the key of an id is the same for a space (`session.ts`).
 */
import type { Span } from './heads.ts';

const ESCAPE = /%[0-9a-f]{2}/gi;
const ONE_ESCAPE = /^%[0-9a-f]{2}$/i;

/** The query without its `?`, up to the fragment; `undefined` if there is none. */
export function findQuery(target: string): Span | undefined {
  const mark = target.indexOf('?');
  if (mark === -1) return undefined;
  const hash = target.indexOf('#');
  if (hash === -1) return { start: mark + 1, end: target.length };
  return hash < mark ? undefined : { start: mark + 1, end: hash };
}

/** Where the next value of that name is, still escaped, in the pairs that begin at `query.start` or later. */
export function findQueryValue(target: string, name: string, query: Span): Span | undefined {
  for (let start = query.start; start < query.end;) {
    const end = endOfPair(target, start, query.end);
    const valueStart = startOfValue(target, name, { start, end });
    if (valueStart !== undefined) return { start: valueStart, end };
    start = end + 1;
  }
  return undefined;
}

/** Where all values of that name are, still escaped. */
export function findQueryValues(target: string, name: string): readonly Span[] {
  const spans: Span[] = [];
  const query = findQuery(target);
  let span = query && findQueryValue(target, name, query);
  while (query && span) {
    spans.push(span);
    span = findQueryValue(target, name, { start: span.end + 1, end: query.end });
  }
  return spans;
}

/**
 * Unescapes a part of a query, one character a byte, as a header has them. A malformed escape stands for itself (URL standard, "percent-decode").
 */
export function decodeQueryText(raw: string): string {
  return raw.includes('%') ? raw.replace(ESCAPE, decodeEscape) : raw;
}

/**
 * Where the last `count` characters of a value begin, which ends at `end` and is still escaped. Every `%` with
 * two hexadecimal digits is an escape, so walking back is not ambiguous.
 */
export function startOfLastCharacters(target: string, end: number, count: number): number {
  let at = end;
  for (let left = count; left > 0; left -= 1) {
    at -= ONE_ESCAPE.test(target.slice(at - 3, at)) ? 3 : 1;
  }
  return at;
}

function decodeEscape(escape: string): string {
  return String.fromCharCode(parseInt(escape.slice(1), 16));
}

function endOfPair(target: string, start: number, queryEnd: number): number {
  const mark = target.indexOf('&', start);
  return mark === -1 || mark > queryEnd ? queryEnd : mark;
}

function startOfValue(target: string, name: string, pair: Span): number | undefined {
  if (target.startsWith(name, pair.start)) {
    const nameEnd = pair.start + name.length;
    if (nameEnd === pair.end) return nameEnd;
    if (nameEnd < pair.end && target[nameEnd] === '=') return nameEnd + 1;
  }
  return startOfEscapedValue(target, name, pair);
}

/** Names may be escaped as well: the app reads `session%5Fid` as `session_id`. */
function startOfEscapedValue(target: string, name: string, pair: Span): number | undefined {
  // The shortest escape is three times as long, so a shorter pair has no escaped name.
  if (pair.end - pair.start < name.length + 2) return undefined;
  const text = target.slice(pair.start, pair.end);
  if (!text.includes('%')) return undefined;
  const equals = text.indexOf('=');
  const rawName = equals === -1 ? text : text.slice(0, equals);
  // An escape is three characters, so a longer name is a different one, and is not decoded.
  if (rawName.length > 3 * name.length || !rawName.includes('%')) return undefined;
  if (decodeQueryText(rawName) !== name) return undefined;
  return equals === -1 ? pair.end : pair.start + equals + 1;
}
