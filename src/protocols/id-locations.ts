/**
 * The places of a request where ids are looked for, in configured order, each once. Where several
 * protocols look at the same place the first one has it, but a client may bring its own id if any
 * of them lets it: `session_id` in a query is MCP's and also any RPC's.
 */
import { findCookieValue } from './cookie.ts';
import { MAX_PATH_CHARACTERS } from './path-pattern.ts';
import {
  CONFLICT,
  type IdLocation,
  type Minter,
  type Protocol,
  type IdReading,
} from './protocol.ts';
import { decodeQueryText, findQuery, findQueryValue } from './query.ts';
import { isHeader, replaceAt, type RequestHead, type Span, textAt } from './heads.ts';

export interface IdReader {
  readonly location: IdLocation;
  readonly protocol: Protocol;
  readonly readsHint: boolean;
  readonly read: (head: RequestHead) => IdReading;
}

export function createIdReaders(protocols: readonly Protocol[]): readonly IdReader[] {
  const places = new Map<string, IdReader>();
  for (const protocol of protocols) {
    for (const source of protocol.idLocations) {
      const key = keyOf(source);
      places.set(key, addClaim(places.get(key), source, protocol));
    }
  }
  return [...places.values()];
}

/** The one value of that header. */
export function createHeaderReader(name: string): IdReader['read'] {
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

function keyOf(source: IdLocation): string {
  return source.in === 'path' ? `path ${source.pattern.source}` : `${source.in} ${nameOf(source)}`;
}

/** As a client may be told what it has said twice. */
export function nameOf(source: IdLocation): string {
  switch (source.in) {
    case 'path':
      return 'path';
    case 'head':
      return source.header;
    default:
      return source.name;
  }
}

function addClaim(place: IdReader | undefined, source: IdLocation, protocol: Protocol): IdReader {
  const readsHint = 'readsHint' in source && source.readsHint;
  if (!place) return { location: source, protocol, readsHint, read: createReader(source) };
  const mintedBy = eitherOf(place.protocol.mintedBy, protocol.mintedBy);
  return {
    ...place,
    protocol: { ...place.protocol, mintedBy },
    readsHint: place.readsHint || readsHint,
  };
}

function eitherOf(one: Minter, other: Minter): Minter {
  return one === other ? one : 'either';
}

function createReader(source: IdLocation): IdReader['read'] {
  switch (source.in) {
    case 'header':
      return createHeaderReader(source.name);
    case 'query':
      return createQueryReader(source.name);
    case 'cookie':
      return createCookieReader(source.name);
    case 'path':
      return createPathReader(source.pattern);
    case 'head':
      return source.read;
  }
}

/** Values are compared unescaped: `%61` and `a` are the same id to every app. */
function createQueryReader(name: string): IdReader['read'] {
  return ({ target }) => {
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

function createCookieReader(name: string): IdReader['read'] {
  return ({ rawHeaders }) => {
    let reading: string | undefined;
    for (let i = 0; i < rawHeaders.length; i += 2) {
      if (!isHeader(rawHeaders[i], 'cookie')) continue;
      const header = rawHeaders[i + 1] ?? '';
      let span = findCookieValue(header, name, 0);
      for (; span; span = findCookieValue(header, name, span.end)) {
        const value = textAt(header, span);
        if (reading !== undefined && reading !== value) return CONFLICT;
        reading = value;
      }
    }
    return reading;
  };
}

/** Unescaped, as a query's: `%61` and `a` are the same id to the app. */
function createPathReader(pattern: RegExp): IdReader['read'] {
  return ({ target }) => {
    const path = pathOf(target);
    const span = findPathId(path, pattern);
    // What ends where the looking ends may go on behind it.
    if (!span || (span.end === MAX_PATH_CHARACTERS && path.length > span.end)) return undefined;
    return decodeQueryText(textAt(path, span));
  };
}

/** Where the id is, in the beginning of a path that is looked at. */
function findPathId(path: string, pattern: RegExp): Span | undefined {
  const [start, end] = pattern.exec(path.slice(0, MAX_PATH_CHARACTERS))?.indices?.[1] ?? [];
  return start === undefined || end === undefined ? undefined : { start, end };
}

function pathOf(target: string): string {
  const end = target.search(/[?#]/);
  return end === -1 ? target : target.slice(0, end);
}

const MASK = '*';

/**
 * Masks the session ids in paths that are logged: an id is a credential (invariant 5). For a path without its query. Paths are the same text where no
 * protocol reads ids in them.
 */
export function createPathMask(protocols: readonly Protocol[]): (path: string) => string {
  const patterns = protocols.flatMap(({ idLocations: sources }) =>
    sources.flatMap((source) => (source.in === 'path' ? [source.pattern] : [])),
  );
  if (patterns.length === 0) return (path) => path;
  return (path) =>
    patterns.reduce((masked, pattern) => {
      const span = findPathId(path, pattern);
      return span ? replaceAt(masked, span, MASK.repeat(span.end - span.start)) : masked;
    }, path);
}
