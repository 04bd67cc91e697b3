/**
 * Header lines as they came: name, value, name, value, in order and case. These functions run on
 * every request and answer, so they look at a name's length before they look at its letters.
 */

/** What is known of a request before its body. */
export interface RequestHead {
  readonly method: string;
  /** The request-target as received (RFC 9112 §3.2). */
  readonly target: string;
  /** Of all fields at least those of {@link namesReadOfRequests}. */
  readonly rawHeaders: readonly string[];
}

/** What is known of an answer before its body. */
export interface ResponseHead {
  readonly statusCode: number;
  readonly rawHeaders: readonly string[];
  /** The fields among these that may hold a session id, if the parser has picked them out. */
  readonly selected?: readonly string[];
}

const LOWER_CASE_BIT = 0x20;

/** Whether a received name is this one, which is given in lower case. */
export function isHeader(rawName: string | undefined, lowerName: string): boolean {
  if (rawName?.length !== lowerName.length) return false;
  if ((rawName.charCodeAt(0) | LOWER_CASE_BIT) !== lowerName.charCodeAt(0)) return false;
  return rawName === lowerName || rawName.toLowerCase() === lowerName;
}

/** Says whether any of these headers, named in lower case, is there at all. */
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

/** Whether any line of that header holds the text, which is given in lower case. */
export function headerIncludes(
  rawHeaders: readonly string[],
  lowerName: string,
  lowerText: string,
): boolean {
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!isHeader(rawHeaders[i], lowerName)) continue;
    if (rawHeaders[i + 1]?.toLowerCase().includes(lowerText)) return true;
  }
  return false;
}

/** A replay may be told in a body of this type too (Fly.io, "Dynamic Request Routing"). */
const REPLAY_BODY_TYPE = 'application/vnd.fly.replay+json';

/** The app routes by itself: its response tells the edge to replay the request, in either form. */
export function isReplayResponse({ rawHeaders }: ResponseHead): boolean {
  return (
    headerIncludes(rawHeaders, 'fly-replay', '') ||
    headerIncludes(rawHeaders, 'content-type', REPLAY_BODY_TYPE)
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
