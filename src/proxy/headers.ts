/**
 * Headers as they pass through: raw pairs, in order and case, less what belongs to one connection
 * only. Nothing here knows of sessions.
 */

/** Raw header pairs: name, value, name, value, as node:http and undici hand them over. */
export type RawHeaders = readonly string[];

/**
 * Fields of one connection (RFC 9110 §7.6.1), and what this proxy negotiates with each side by
 * itself: `Expect` (answered here) and `TE`. `Trailer` stays: trailers of a response are passed on.
 */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'transfer-encoding',
  'upgrade',
]);

/** What `Connection` may name and we keep all the same, as the message makes no sense without it. */
const NEVER_REMOVED: ReadonlySet<string> = new Set(['host', 'content-length', 'content-type']);

/** Names as they were sent -> lower case. Real traffic has few spellings; a flood of others is not kept. */
const MAX_REMEMBERED_NAMES = 1024;
const MAX_REMEMBERED_LENGTH = 64;

export type LowerCase = (name: string) => string;

/** Lower-cases header names, remembering the usual ones: the look-up costs a third of the conversion. */
export function createLowerCase(): LowerCase {
  const remembered = new Map<string, string>();
  return (name) => {
    const known = remembered.get(name);
    if (known !== undefined) return known;
    const lower = name.toLowerCase();
    if (remembered.size < MAX_REMEMBERED_NAMES && name.length <= MAX_REMEMBERED_LENGTH) {
      remembered.set(name, lower);
    }
    return lower;
  };
}

/** What the wire needs to know of a request's headers, found in one pass. */
export interface HeadFields {
  readonly connection: string | undefined;
  readonly transferEncoding: string | undefined;
  readonly contentLength: string | undefined;
  readonly host: string | undefined;
  readonly hostCount: number;
  readonly expect: string | undefined;
  readonly upgrade: string | undefined;
  readonly requestId: string | undefined;
  readonly replaySource: string | undefined;
  readonly replayFailed: string | undefined;
  readonly replayCacheStatus: string | undefined;
  readonly hasForwardedFor: boolean;
  readonly hasForwardedProto: boolean;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export function readFields(raw: RawHeaders, lowerCase: LowerCase): HeadFields {
  const fields: Mutable<HeadFields> = {
    connection: undefined,
    transferEncoding: undefined,
    contentLength: undefined,
    host: undefined,
    hostCount: 0,
    expect: undefined,
    upgrade: undefined,
    requestId: undefined,
    replaySource: undefined,
    replayFailed: undefined,
    replayCacheStatus: undefined,
    hasForwardedFor: false,
    hasForwardedProto: false,
  };
  for (let i = 0; i + 1 < raw.length; i += 2) {
    readField(fields, lowerCase(raw[i] ?? ''), raw[i + 1] ?? '');
  }
  return fields;
}

function readField(fields: Mutable<HeadFields>, name: string, value: string): void {
  switch (name) {
    case 'connection':
      // Several lines are one list (RFC 9110 §5.3).
      fields.connection = fields.connection === undefined ? value : `${fields.connection},${value}`;
      break;
    case 'transfer-encoding':
      fields.transferEncoding = value;
      break;
    case 'content-length':
      fields.contentLength = value;
      break;
    case 'host':
      fields.host = value;
      fields.hostCount += 1;
      break;
    case 'expect':
      fields.expect = value;
      break;
    case 'upgrade':
      fields.upgrade = value;
      break;
    case 'fly-request-id':
      fields.requestId = value;
      break;
    case 'fly-replay-src':
      fields.replaySource = value;
      break;
    case 'fly-replay-failed':
      fields.replayFailed = value;
      break;
    case 'fly-replay-cache-status':
      fields.replayCacheStatus = value;
      break;
    case 'x-forwarded-for':
      fields.hasForwardedFor = true;
      break;
    case 'x-forwarded-proto':
      fields.hasForwardedProto = true;
      break;
  }
}

/** What is added to a request where the edge has not said it already. */
export interface ForwardedBy {
  readonly remoteAddress: string;
  readonly fields: HeadFields;
}

/**
 * The headers for the upstream: less those of the connection and those that `Connection` names,
 * `x-forwarded-for` and `-proto` added where they are missing. `Content-Length` and `Host` stay.
 */
export function requestHeaders(
  raw: RawHeaders,
  lowerCase: LowerCase,
  forwarded: ForwardedBy,
): string[] {
  const named = namedByConnection(forwarded.fields.connection);
  const kept: string[] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? '';
    const lower = lowerCase(name);
    if (HOP_BY_HOP.has(lower) || lower === 'expect' || named?.has(lower)) continue;
    kept.push(name, raw[i + 1] ?? '');
  }
  if (!forwarded.fields.hasForwardedFor) kept.push('X-Forwarded-For', forwarded.remoteAddress);
  if (!forwarded.fields.hasForwardedProto) kept.push('X-Forwarded-Proto', 'http');
  return kept;
}

/** A response's headers less those of the connection. */
export function responseHeaders(raw: RawHeaders, lowerCase: LowerCase): string[] {
  const all: string[] = [];
  let connection: string | undefined;
  let isFiltered = false;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? '';
    const lower = lowerCase(name);
    if (HOP_BY_HOP.has(lower)) {
      if (lower === 'connection') {
        const value = raw[i + 1] ?? '';
        connection = connection === undefined ? value : `${connection},${value}`;
        isFiltered ||= !isPlainConnection(value);
      }
      continue;
    }
    all.push(name, raw[i + 1] ?? '');
  }
  return isFiltered ? withoutNamed(all, namedByConnection(connection), lowerCase) : all;
}

/** The first value under a lower-case name. */
export function headerValue(
  raw: RawHeaders,
  wanted: string,
  lowerCase: LowerCase,
): string | undefined {
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? '';
    if (name.length === wanted.length && lowerCase(name) === wanted) return raw[i + 1];
  }
  return undefined;
}

/** The same headers with one set to a value, in place of all there are of that name. */
export function withHeader(
  raw: RawHeaders,
  name: string,
  value: string,
  lowerCase: LowerCase,
): string[] {
  const headers = withoutHeader(raw, name, lowerCase);
  headers.push(name, value);
  return headers;
}

/** The pairs whose lower-case name is not the given one. */
export function withoutHeader(raw: RawHeaders, unwanted: string, lowerCase: LowerCase): string[] {
  return withoutNamed(raw, new Set([unwanted]), lowerCase);
}

function withoutNamed(
  raw: RawHeaders,
  named: ReadonlySet<string> | undefined,
  lowerCase: LowerCase,
): string[] {
  const kept: string[] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? '';
    if (!named?.has(lowerCase(name))) kept.push(name, raw[i + 1] ?? '');
  }
  return kept;
}

/** Fields that `Connection` names belong to that connection too (RFC 9110 §7.6.1). */
function namedByConnection(connection: string | undefined): ReadonlySet<string> | undefined {
  if (connection === undefined || isPlainConnection(connection)) return undefined;
  const named = new Set<string>();
  for (const token of connection.split(',')) {
    const name = token.trim().toLowerCase();
    if (!NEVER_REMOVED.has(name)) named.add(name);
  }
  return named;
}

/** The two values that nearly every message has, and that name no field. */
function isPlainConnection(value: string): boolean {
  return value === 'keep-alive' || value === 'close' || value === 'Keep-Alive';
}
