/**
 * Headers as they pass through: raw pairs, in order and case, less what belongs to one connection
 * only. Nothing here knows of sessions. Runs on every request and answer: names are told by their
 * length and first letter before they are compared.
 */
import { isHeader } from '../affinity/raw-headers.ts';

/** Raw header pairs: name, value, name, value, as node:http hands them over. */
export type RawHeaders = readonly string[];

/** What the wire needs to know of a request's headers, found in one pass. */
export interface HeadFields {
  /** What is for the app: less the fields of one connection, and those that `Connection` names. */
  readonly endToEnd: RawHeaders;
  readonly connection: string | undefined;
  readonly transferEncoding: string | undefined;
  readonly contentLength: string | undefined;
  readonly host: string | undefined;
  readonly hostCount: number;
  readonly upgrade: string | undefined;
  readonly requestId: string | undefined;
  readonly replaySource: string | undefined;
  readonly replayFailed: string | undefined;
  readonly preferredUnavailable: string | undefined;
  readonly replayCacheStatus: string | undefined;
  readonly hasForwardedFor: boolean;
  readonly hasForwardedProto: boolean;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** What `Connection` may name and we read all the same: the message makes no sense without it. */
const NEVER_REMOVED: ReadonlySet<string> = new Set([
  ...['host', 'content-length', 'content-type', 'transfer-encoding'],
  ...['upgrade', 'expect', 'te', 'keep-alive', 'connection', 'close'],
]);

export function readFields(raw: RawHeaders): HeadFields {
  const fields = readAll(raw);
  const named = namedByConnection(fields.connection);
  if (named === undefined) return fields;
  return { ...readAll(withoutNamed(raw, named)), connection: fields.connection };
}

function readAll(raw: RawHeaders): Mutable<HeadFields> {
  const endToEnd: string[] = [];
  const fields: Mutable<HeadFields> = {
    endToEnd,
    connection: undefined,
    transferEncoding: undefined,
    contentLength: undefined,
    host: undefined,
    hostCount: 0,
    upgrade: undefined,
    requestId: undefined,
    replaySource: undefined,
    replayFailed: undefined,
    preferredUnavailable: undefined,
    replayCacheStatus: undefined,
    hasForwardedFor: false,
    hasForwardedProto: false,
  };
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? '';
    const value = raw[i + 1] ?? '';
    if (isHopByHop(name)) noteHopByHop(fields, name, value);
    else {
      noteEndToEnd(fields, name, value);
      endToEnd.push(name, value);
    }
  }
  return fields;
}

/**
 * Fields of one connection (RFC 9110 §7.6.1), and what this proxy settles with each side by itself:
 * `Expect`, which is answered here, and `TE`. `Trailer` stays: trailers of an answer are passed on.
 */
function isHopByHop(name: string): boolean {
  switch (name.length) {
    case 2:
      return isHeader(name, 'te');
    case 6:
      return isHeader(name, 'expect');
    case 7:
      return isHeader(name, 'upgrade');
    case 10:
      return isHeader(name, 'connection') || isHeader(name, 'keep-alive');
    case 16:
      return isHeader(name, 'proxy-connection');
    case 17:
      return isHeader(name, 'transfer-encoding');
    default:
      return false;
  }
}

function noteHopByHop(fields: Mutable<HeadFields>, name: string, value: string): void {
  if (isHeader(name, 'connection')) {
    // Several lines are one list (RFC 9110 §5.3).
    fields.connection = fields.connection === undefined ? value : `${fields.connection},${value}`;
  } else if (isHeader(name, 'transfer-encoding')) {
    const known = fields.transferEncoding;
    fields.transferEncoding = known === undefined ? value : `${known},${value}`;
  } else if (isHeader(name, 'upgrade')) {
    fields.upgrade = fields.upgrade === undefined ? value : `${fields.upgrade}, ${value}`;
  }
}

function noteEndToEnd(fields: Mutable<HeadFields>, name: string, value: string): void {
  switch (name.length) {
    case 4:
      if (!isHeader(name, 'host')) break;
      fields.host = value;
      fields.hostCount += 1;
      break;
    case 14:
      if (isHeader(name, 'content-length')) fields.contentLength = value;
      else if (isHeader(name, 'fly-request-id')) fields.requestId = value;
      else if (isHeader(name, 'fly-replay-src')) fields.replaySource = value;
      break;
    case 15:
      fields.hasForwardedFor ||= isHeader(name, 'x-forwarded-for');
      break;
    case 17:
      if (isHeader(name, 'x-forwarded-proto')) fields.hasForwardedProto = true;
      else if (isHeader(name, 'fly-replay-failed')) fields.replayFailed = value;
      break;
    case 23:
      if (isHeader(name, 'fly-replay-cache-status')) fields.replayCacheStatus = value;
      break;
    case 34:
      if (isHeader(name, 'fly-preferred-instance-unavailable')) fields.preferredUnavailable = value;
      break;
  }
}

export interface ForwardedBy {
  readonly remoteAddress: string;
  /** For a request of HTTP/1.0 that names none (RFC 9110 §7.2). */
  readonly upstreamHost: string;
}

/** `x-forwarded-for` and `-proto` of the edge stay; they, and `Host`, are added only where they are missing. */
export function withForwarded(
  headers: RawHeaders,
  fields: HeadFields,
  { remoteAddress, upstreamHost }: ForwardedBy,
): RawHeaders {
  const { hasForwardedFor, hasForwardedProto, hostCount } = fields;
  if (hasForwardedFor && hasForwardedProto && hostCount > 0) return headers;
  const added = hostCount > 0 ? [...headers] : ['Host', upstreamHost, ...headers];
  if (!hasForwardedFor) added.push('X-Forwarded-For', remoteAddress);
  if (!hasForwardedProto) added.push('X-Forwarded-Proto', 'http');
  return added;
}

/** A response's headers less those of the connection. */
export function responseHeaders(raw: RawHeaders): string[] {
  const kept: string[] = [];
  let connection: string | undefined;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? '';
    const value = raw[i + 1] ?? '';
    if (!isHopByHop(name)) kept.push(name, value);
    else if (isHeader(name, 'connection')) {
      connection = connection === undefined ? value : `${connection},${value}`;
    }
  }
  const named = namedByConnection(connection);
  return named === undefined ? kept : withoutNamed(kept, named);
}

/**
 * What of an answer's trailers may go out: nothing that frames, routes or authenticates (RFC 9110
 * §6.5.1), and no id, as those are learned from heads alone.
 */
export function passableTrailers(raw: RawHeaders, teaching: ReadonlySet<string>): RawHeaders {
  if (raw.length === 0) return raw;
  const kept: string[] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? '';
    const lower = name.toLowerCase();
    const isForbidden =
      isHopByHop(name) || NEVER_REMOVED.has(lower) || isOfTheEdge(lower) || teaching.has(lower);
    if (!isForbidden && lower !== 'set-cookie') kept.push(name, raw[i + 1] ?? '');
  }
  return kept;
}

/** The first value under a lower-case name. */
export function headerValue(raw: RawHeaders, lowerName: string): string | undefined {
  for (let i = 0; i + 1 < raw.length; i += 2) if (isHeader(raw[i], lowerName)) return raw[i + 1];
  return undefined;
}

/** The same headers with one set to a value, in place of all there are of that name. */
export function withHeader(raw: RawHeaders, lowerName: string, value: string): string[] {
  const headers = withoutNamed(raw, new Set([lowerName]));
  headers.push(lowerName, value);
  return headers;
}

export function withoutNamed(raw: RawHeaders, named: ReadonlySet<string>): string[] {
  const kept: string[] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? '';
    if (!named.has(name.toLowerCase())) kept.push(name, raw[i + 1] ?? '');
  }
  return kept;
}

/** Fields that `Connection` names belong to that connection too (RFC 9110 §7.6.1). */
function namedByConnection(connection: string | undefined): ReadonlySet<string> | undefined {
  if (connection === undefined || isPlainConnection(connection)) return undefined;
  const named = new Set<string>();
  for (const token of connection.split(',')) {
    const name = token.trim().toLowerCase();
    if (!NEVER_REMOVED.has(name) && !isOfTheEdge(name)) named.add(name);
  }
  return named.size === 0 ? undefined : named;
}

/**
 * What the edge says of a request. A client that could take it away by naming it in `Connection`
 * would hide where it comes from, or that it was replayed, and could start a loop (invariant 3).
 */
function isOfTheEdge(lowerName: string): boolean {
  return /^(?:fly-|x-forwarded-|forwarded$|via$)/.test(lowerName);
}

/** The values that nearly every message has, and that name no field. */
function isPlainConnection(value: string): boolean {
  return value === 'keep-alive' || value === 'close' || value === 'Keep-Alive';
}
