/**
 * The heads of requests and responses, as far as protocols read them. Header lines are name, value, name,
 * value, in order and case as received. These functions run on every request and response, so they compare
 * a name's length before its letters.
 */

/** A request, as far as it is known before its body. */
export interface RequestHead {
  readonly method: string;
  /** The request-target as received (RFC 9112 §3.2). */
  readonly target: string;
  /** The host that the request is for, if it is known without its fields. */
  readonly host?: string | undefined;
  /** The protocol that the connection is to switch to, in lower case. */
  readonly upgrade?: string | undefined;
  /** Of all fields at least those of {@link headersReadFromRequests}. */
  readonly rawHeaders: readonly string[];
  /** The JSON body, one character a byte; only where an id may be in it. */
  readonly body?: string;
}

/** A response, as far as it is known before its body. */
export interface ResponseHead {
  readonly statusCode: number;
  readonly rawHeaders: readonly string[];
  /**
   * The fields among these that tell whether it may reveal a session id, if the parser has picked them out: it
   * builds the array of all only where it is read.
   */
  readonly selected?: readonly string[];
}

const LOWER_CASE_BIT = 0x20;

/** Whether a received name is this one, which is given in lower case. */
export function isHeader(rawName: string | undefined, lowerName: string): boolean {
  if (rawName?.length !== lowerName.length) return false;
  if ((rawName.charCodeAt(0) | LOWER_CASE_BIT) !== lowerName.charCodeAt(0)) return false;
  return rawName === lowerName || rawName.toLowerCase() === lowerName;
}

/** Tells whether any header of these names, given in lower case, is there at all. */
export function createHeaderSpotter(
  lowerNames: Iterable<string>,
): (rawHeaders: readonly string[]) => boolean {
  const namesByLength: (string[] | undefined)[] = [];
  for (const name of new Set(lowerNames)) (namesByLength[name.length] ??= []).push(name);

  return (rawHeaders) => {
    for (let i = 0; i < rawHeaders.length; i += 2) {
      const rawName = rawHeaders[i];
      const names = rawName === undefined ? undefined : namesByLength[rawName.length];
      if (names?.some((name) => isHeader(rawName, name))) return true;
    }
    return false;
  };
}

/** Whether any line of that header, whose name is given in lower case, matches. */
export function headerMatches(
  rawHeaders: readonly string[],
  lowerName: string,
  pattern: RegExp,
): boolean {
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (isHeader(rawHeaders[i], lowerName) && pattern.test(rawHeaders[i + 1] ?? '')) return true;
  }
  return false;
}

/* Patterns of media types (RFC 9110 §8.3.1). To ignore case in the search costs a fourth of a lower-case copy. */
export const JSON_TYPE = /application\/json|\+json/i;
export const JSON_OR_TEXT_TYPE = /application\/json|text\/plain/i;
export const EVENT_STREAM_TYPE = /text\/event-stream/i;

/** A text as part of a pattern. */
export function escapePattern(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}

/**
 * Whether a text contains any of these, in one pass. A mark that is undefined may be anywhere. Most requests have
 * none, so this runs before all that reads them.
 */
export function createMarkCheck(marks: readonly (string | undefined)[]): (text: string) => boolean {
  if (marks.length === 0) return () => false;
  if (marks.includes(undefined)) return () => true;
  const pattern = new RegExp(marks.map((mark = '') => escapePattern(mark)).join('|'));
  return (text) => pattern.test(text);
}

/** The media type of a body that asks for a replay (Fly.io, "Dynamic Request Routing"). */
const REPLAY_BODY_TYPE = /application\/vnd\.fly\.replay\+json/i;

/** Whether the app asks the edge to replay the request, by a header or by a body. */
export function isReplayResponse({ rawHeaders }: ResponseHead): boolean {
  return (
    headerValue(rawHeaders, 'fly-replay') !== undefined ||
    headerMatches(rawHeaders, 'content-type', REPLAY_BODY_TYPE)
  );
}

/** A part of a text: from `start` to just before `end`. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

export function textAt(text: string, span: Span): string {
  return text.slice(span.start, span.end);
}

/** The text with that part replaced, byte for byte the same otherwise. */
export function replaceAt(text: string, span: Span, replacement: string): string {
  return text.slice(0, span.start) + replacement + text.slice(span.end);
}

/** The first value under a lower-case name. */
export function headerValue(rawHeaders: readonly string[], lowerName: string): string | undefined {
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    if (isHeader(rawHeaders[i], lowerName)) return rawHeaders[i + 1];
  }
  return undefined;
}

/** The same fields less all of one name, which is in lower case; the very array if there is none. */
export function withoutHeader(rawHeaders: readonly string[], lowerName: string): readonly string[] {
  if (headerValue(rawHeaders, lowerName) === undefined) return rawHeaders;
  const kept: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    if (!isHeader(rawHeaders[i], lowerName))
      kept.push(rawHeaders[i] ?? '', rawHeaders[i + 1] ?? '');
  }
  return kept;
}

/** The same fields with one of them set to a value, in place of all there are of that name. */
export function withHeader(
  rawHeaders: readonly string[],
  lowerName: string,
  value: string,
): readonly string[] {
  return [...withoutHeader(rawHeaders, lowerName), lowerName, value];
}
