/**
 * The places of a request where ids are looked for, in configured order, each once. Where several
 * protocols look at the same place the first one has it, but a client may bring its own id if any
 * of them lets it: `session_id` in a query is MCP's and also any RPC's.
 */
import { findCookieValue } from './cookie.ts';
import { MAX_PATH_CHARACTERS } from './path-pattern.ts';
import { CONFLICT, type IdSource, type Minter, type Protocol, type Reading } from './protocol.ts';
import { decodeQueryText, findQuery, findQueryValue } from './query.ts';
import { isHeader, type RequestHead } from './raw-headers.ts';
import { type Span, textAt } from './span.ts';

export { CONFLICT, type Reading } from './protocol.ts';

export interface Place {
  readonly source: IdSource;
  readonly protocol: Protocol;
  readonly readsHint: boolean;
  readonly read: (head: RequestHead) => Reading;
}

export function createPlaces(protocols: readonly Protocol[]): readonly Place[] {
  const places = new Map<string, Place>();
  for (const protocol of protocols) {
    for (const source of protocol.sources) {
      const key = keyOf(source);
      places.set(key, addClaim(places.get(key), source, protocol));
    }
  }
  return [...places.values()];
}

/** The one value of that header. */
export function createHeaderReader(name: string): Place['read'] {
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

function keyOf(source: IdSource): string {
  return source.in === 'path' ? `path ${source.pattern.source}` : `${source.in} ${nameOf(source)}`;
}

/** As a client may be told what it has said twice. */
export function nameOf(source: IdSource): string {
  switch (source.in) {
    case 'path':
      return 'path';
    case 'head':
      return source.header;
    default:
      return source.name;
  }
}

function addClaim(place: Place | undefined, source: IdSource, protocol: Protocol): Place {
  const readsHint = 'readsHint' in source && source.readsHint;
  if (!place) return { source, protocol, readsHint, read: createReader(source) };
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

function createReader(source: IdSource): Place['read'] {
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
function createQueryReader(name: string): Place['read'] {
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

function createCookieReader(name: string): Place['read'] {
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
function createPathReader(pattern: RegExp): Place['read'] {
  return ({ target }) => {
    const path = pathOf(target);
    const span = findPathId(path, pattern);
    // What ends where the looking ends may go on behind it.
    if (!span || (span.end === MAX_PATH_CHARACTERS && path.length > span.end)) return undefined;
    return decodeQueryText(textAt(path, span));
  };
}

/** Where the id is, in the beginning of a path that is looked at. */
export function findPathId(path: string, pattern: RegExp): Span | undefined {
  const [start, end] = pattern.exec(path.slice(0, MAX_PATH_CHARACTERS))?.indices?.[1] ?? [];
  return start === undefined || end === undefined ? undefined : { start, end };
}

function pathOf(target: string): string {
  const end = target.search(/[?#]/);
  return end === -1 ? target : target.slice(0, end);
}
