/**
 * Where a request may carry a session id: one reader for each location, in configured order. A location that
 * several protocols share belongs to the first of them, but a client may bring its own id if any of them
 * lets it: `session_id` in a query is MCP's and also any RPC's. It is a guess only if all of them guess.
 */
import { findCookieValue } from './cookie.ts';
import { OWN_PARAMETER, readOwnParameter } from './own-parameter.ts';
import { readJsonId } from './json-id.ts';
import { MAX_PATH_CHARACTERS } from './path-pattern.ts';
import {
  CONFLICT,
  type IdLocation,
  type Minter,
  type Protocol,
  type IdReading,
} from './protocol.ts';
import { decodeQueryText, findQuery, findQueryValue, findQueryValues } from './query.ts';
import {
  createMarkCheck,
  isHeader,
  replaceAt,
  type RequestHead,
  type Span,
  textAt,
} from './heads.ts';

export interface IdReader {
  readonly location: IdLocation;
  readonly protocol: Protocol;
  readonly mayCarryHint: boolean;
  readonly read: (head: RequestHead) => IdReading;
}

export function createIdReaders(protocols: readonly Protocol[]): readonly IdReader[] {
  const readers = new Map<string, IdReader>();
  for (const protocol of protocols) {
    for (const location of protocol.idLocations) {
      const key = keyOf(location, protocol);
      readers.set(key, addProtocol(readers.get(key), location, protocol));
    }
  }
  return [...readers.values()].sort((one, other) => orderOf(one) - orderOf(other));
}

/**
 * The sidecar has written its own parameter for this very session: no other id is as certain. An id in a body
 * counts only where the head has none.
 */
function orderOf({ location }: IdReader): number {
  if (location.in === 'body') return 1;
  return location.in === 'query' && location.name === OWN_PARAMETER ? -1 : 0;
}

/** The one value of that header. */
export function createHeaderReader(
  name: string,
): (head: RequestHead) => string | typeof CONFLICT | undefined {
  return ({ rawHeaders }) => {
    let reading: string | undefined;
    for (let i = 0; i < rawHeaders.length; i += 2) {
      if (!isHeader(rawHeaders[i], name)) continue;
      const value = rawHeaders[i + 1] ?? '';
      if (reading !== undefined && reading !== value) return CONFLICT;
      reading = value;
    }
    return reading;
  };
}

/** A location with a condition is one of its own. */
function keyOf(location: IdLocation, protocol: Protocol): string {
  if (location.in === 'path') return `path ${location.pattern.source}`;
  const hasCondition =
    location.in === 'head' || location.in === 'websocket' || ('when' in location && location.when);
  return `${location.in} ${locationName(location)}${hasCondition ? ` ${protocol.name}` : ''}`;
}

/** For the error response to a request with two ids under one name. */
export function locationName(location: IdLocation): string {
  switch (location.in) {
    case 'path':
      return 'path';
    case 'head':
      return location.header;
    case 'websocket':
      return 'websocket';
    case 'body':
      return `/${location.pointer.join('/')}`;
    default:
      return location.name;
  }
}

function addProtocol(
  reader: IdReader | undefined,
  location: IdLocation,
  protocol: Protocol,
): IdReader {
  const mayCarryHint = 'mayCarryHint' in location && location.mayCarryHint;
  if (!reader) return { location, protocol, mayCarryHint, read: createReader(location) };
  return {
    ...reader,
    protocol: sharedProtocol(reader.protocol, protocol),
    mayCarryHint: reader.mayCarryHint || mayCarryHint,
  };
}

/** What only one of them leaves open is certain. */
function sharedProtocol(first: Protocol, other: Protocol): Protocol {
  const { isGuess, isOfAuto, ...certain } = first;
  return {
    ...certain,
    mintedBy: eitherOf(first.mintedBy, other.mintedBy),
    ...(isGuess && other.isGuess && { isGuess }),
    ...(isOfAuto && other.isOfAuto && { isOfAuto }),
  };
}

function eitherOf(one: Minter, other: Minter): Minter {
  return one === other ? one : 'either';
}

export function createReader(location: IdLocation): IdReader['read'] {
  switch (location.in) {
    case 'header':
      return createHeaderReader(location.name);
    case 'query':
      return onlyWhen(location.when, createQueryReader(location.name));
    case 'cookie':
      return createCookieReader(location.name);
    case 'path':
      return createPathReader(location.pattern, location.mark);
    case 'head':
      return location.read;
    case 'websocket':
      return onlyWhen(({ upgrade }) => upgrade === 'websocket', location.read);
    case 'body': {
      const { pointer } = location;
      return onlyWhen(location.when, ({ body }) => body && readJsonId(body, pointer));
    }
  }
}

function onlyWhen(
  when: ((head: RequestHead) => boolean) | undefined,
  read: IdReader['read'],
): IdReader['read'] {
  return when ? (head) => (when(head) ? read(head) : undefined) : read;
}

/** Values are compared unescaped: `%61` and `a` are the same id to every app. */
function createQueryReader(name: string): IdReader['read'] {
  if (name === OWN_PARAMETER) return ({ target }) => readOwnParameter(target);
  return ({ target }) => {
    // A name may be escaped. The usual target has neither.
    if (!target.includes(name) && !target.includes('%')) return undefined;
    const query = findQuery(target);
    let reading: string | undefined;
    let span = query && findQueryValue(target, name, query);
    while (query && span) {
      const value = decodeQueryText(textAt(target, span));
      if (reading !== undefined && reading !== value) return CONFLICT;
      reading = value;
      span = findQueryValue(target, name, { start: span.end + 1, end: query.end });
    }
    return reading;
  };
}

/** All values under a name that has several different ones, unescaped. */
export function readConflict(
  location: IdLocation,
  { target, rawHeaders }: RequestHead,
): readonly string[] {
  if (location.in === 'query')
    return findQueryValues(target, location.name).map((span) =>
      decodeQueryText(textAt(target, span)),
    );
  if (location.in !== 'header') return [];
  return rawHeaders.filter((_, i) => i % 2 === 1 && isHeader(rawHeaders[i - 1], location.name));
}

/** A browser holds a cookie once a domain and a path, and sends all of these. */
const MAX_COOKIE_VALUES = 4;

/** A cookie may be sent more than once, and the server does not see for which domain and path each was set. */
function createCookieReader(name: string): IdReader['read'] {
  return ({ rawHeaders }) => {
    const values = readCookieValues(rawHeaders, name);
    return values.length > 1 ? values : values[0];
  };
}

/** The first different values of that cookie. */
export function readCookieValues(rawHeaders: readonly string[], name: string): readonly string[] {
  let values = NO_VALUES;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!isHeader(rawHeaders[i], 'cookie')) continue;
    const header = rawHeaders[i + 1] ?? '';
    if (!header.includes(name)) continue;
    let span = findCookieValue(header, name, 0);
    for (; span; span = findCookieValue(header, name, span.end)) {
      const value = textAt(header, span);
      if (!values.includes(value)) values = [...values, value];
      if (values.length === MAX_COOKIE_VALUES) return values;
    }
  }
  return values;
}

const NO_VALUES: readonly string[] = [];

/** Whether a request may have a cookie of any of these names: a quick check, in one pass. */
export function createCookieCheck(
  names: readonly string[],
): (rawHeaders: readonly string[]) => boolean {
  const hasName = createMarkCheck(names);
  return (rawHeaders) => {
    for (let i = 0; i + 1 < rawHeaders.length; i += 2)
      if (isHeader(rawHeaders[i], 'cookie') && hasName(rawHeaders[i + 1] ?? '')) return true;
    return false;
  };
}

/** Unescaped, as in a query: `%61` and `a` are the same id to the app. */
function createPathReader(pattern: RegExp, mark = ''): IdReader['read'] {
  return ({ target }) => {
    if (!target.includes(mark)) return undefined;
    const path = pathOf(target);
    const span = findPathId(path, pattern);
    // An id that ends where the search ends may go on behind it.
    if (!span || (span.end === MAX_PATH_CHARACTERS && path.length > span.end)) return undefined;
    return decodeQueryText(textAt(path, span));
  };
}

/** Where the id is, in the part of a path that is searched. */
function findPathId(path: string, pattern: RegExp): Span | undefined {
  const [start, end] = pattern.exec(path.slice(0, MAX_PATH_CHARACTERS))?.indices?.[1] ?? [];
  return start === undefined || end === undefined ? undefined : { start, end };
}

export function pathOf(target: string): string {
  const end = target.search(/[?#]/);
  return end === -1 ? target : target.slice(0, end);
}

const MASK = '*';

/** `head`: that of the request with this path. */
export type PathMask = (path: string, head?: RequestHead) => string;

/**
 * Masks the session ids in a path, without its query, for the log: an id is a credential (invariant 5).
 * Returns paths unchanged if no protocol reads ids from them.
 */
export function createPathMask(protocols: readonly Protocol[]): PathMask {
  const locations = protocols.flatMap(({ idLocations }) =>
    idLocations.flatMap((location) => (location.in === 'path' ? [location] : [])),
  );
  const hasMark = createMarkCheck(locations.map(({ mark }) => mark));
  // What is no session here may be one elsewhere: that depends on the request, and not on what routing made of it.
  const ofHeads = protocols.flatMap(({ idLocations }) =>
    idLocations.flatMap((location) =>
      'inPath' in location ? [{ inPath: location.inPath, read: createReader(location) }] : [],
    ),
  );
  return (path, head) => {
    let masked = path;
    if (hasMark(path))
      for (const { pattern } of locations) masked = maskedAt(masked, findPathId(path, pattern));
    for (const { inPath, read } of head ? ofHeads : [])
      if (head && read(head) !== undefined) masked = maskedAt(masked, findPathId(path, inPath));
    return masked;
  };
}

function maskedAt(path: string, span: Span | undefined): string {
  return span ? replaceAt(path, span, MASK.repeat(span.end - span.start)) : path;
}
