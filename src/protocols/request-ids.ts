/**
 * The session id of a request. This runs on every request: most have none, which the lengths of their header
 * names and the lack of a query tell without an allocation.
 */
import {
  createHeaderSpotter,
  createMarkCheck,
  escapePattern,
  headerMatches,
  JSON_TYPE,
  type RequestHead,
} from './heads.ts';
import { createIdReaders, locationName, type IdReader } from './id-locations.ts';
import { isMcpWithoutSessions } from './mcp.ts';
import { splitOwnerHint } from './owner-hint.ts';
import { CONFLICT, type Protocol } from './protocol.ts';
import { parseSessionId, type MachineId, type SessionId } from '../session.ts';

export interface FoundId {
  /** Without its owner hint, as the app knows it. */
  readonly id: SessionId;
  /** The whole text, if its end looks like a hint: a client's own id may look like that too. */
  readonly hintedId: SessionId | undefined;
  readonly hint: MachineId | undefined;
  readonly protocol: Protocol;
}

export type RequestIds =
  | { readonly kind: 'none' }
  /** Two different values under one name of a listed protocol. */
  | { readonly kind: 'conflict'; readonly name: string }
  | ({
      readonly kind: 'found';
      /** More values of the same cookie, behind this one: the first that has an owner is the session. */
      readonly others?: readonly FoundId[];
      /** Of a guess: what the request has if nobody knows this id, which is none then. */
      readonly otherwise?: RequestIds;
    } & FoundId);

/** Never throws: a malformed id counts as none. */
export type ReadRequestIds = (head: RequestHead) => RequestIds;

const NONE: RequestIds = { kind: 'none' };

/** The session id is the first well-formed one, in the order of the protocols and of their locations. */
export function createRequestIdReader(
  protocols: readonly Protocol[],
  options: { readonly hints: boolean },
): ReadRequestIds {
  const readersFor = createReaderChoice(createIdReaders(protocols));
  const withoutMcp = createReaderChoice(
    createIdReaders(protocols.filter((protocol) => !protocol.isMcp)),
  );

  return (head) => {
    const readers = readersFor(head);
    if (readers.length === 0) return NONE;
    return readFrom(isMcpWithoutSessions(head) ? withoutMcp(head) : readers, 0, head);
  };

  function readFrom(all: readonly IdReader[], first: number, head: RequestHead): RequestIds {
    for (let i = first; i < all.length; i += 1) {
      const reader = all[i];
      const ids = reader && readIds(reader, head, options.hints);
      if (ids?.kind === 'found' && ids.protocol.isGuess)
        return { ...ids, otherwise: readFrom(all, i + 1, head) };
      if (ids) return ids;
    }
    return NONE;
  }
}

/** Where in a request an id may be, as a quick check sees it. */
const PLACE = { header: 1, query: 2, path: 4, websocket: 8, body: 16 } as const;

function placeOf({ location }: IdReader): number {
  const { in: where } = location;
  return where === 'head' || where === 'cookie' ? PLACE.header : PLACE[where];
}

/**
 * The readers that may find an id in a request: it has the header of one, or a query, or its path looks like it. Most
 * requests have none of that, and the others one of it.
 */
function createReaderChoice(
  readers: readonly IdReader[],
): (head: RequestHead) => readonly IdReader[] {
  const placesOf = createPlaceCheck(readers);
  const byPlaces: (readonly IdReader[] | undefined)[] = [];
  return (head) => {
    const places = placesOf(head);
    return (byPlaces[places] ??= readers.filter((reader) => (placeOf(reader) & places) !== 0));
  };
}

function createPlaceCheck(readers: readonly IdReader[]): (head: RequestHead) => number {
  const paths = readers.flatMap(({ location }) => (location.in === 'path' ? [location] : []));
  const hasMark = createMarkCheck(paths.map(({ mark }) => mark));
  const hasName = createNameCheck(
    readers.flatMap(({ location }) => (location.in === 'query' ? [location.name] : [])),
  );
  const hasIdHeader = createHeaderSpotter(
    readers.flatMap(({ location }) => {
      if (location.in === 'header') return [location.name];
      if (location.in === 'head') return [location.header];
      return location.in === 'cookie' ? ['cookie'] : [];
    }),
  );
  return ({ target, rawHeaders, body, upgrade }) =>
    (hasIdHeader(rawHeaders) ? PLACE.header : 0) |
    (hasName(target) ? PLACE.query : 0) |
    (hasMark(target) ? PLACE.path : 0) |
    (upgrade === undefined ? 0 : PLACE.websocket) |
    (body === undefined ? 0 : PLACE.body);
}

/** Whether a query may have a parameter of these names. A name may be escaped. */
function createNameCheck(names: readonly string[]): (target: string) => boolean {
  if (names.length === 0) return () => false;
  const pattern = new RegExp(`[?&](?:${names.map(escapePattern).join('|')})(?:[=&#]|$)|%`);
  return (target) => target.includes('?') && pattern.test(target);
}

/** Longer JSON bodies have no id. */
export const MAX_BODY_BYTES = 65_536;

interface Framing {
  readonly isChunked: boolean;
  readonly contentLength?: number | undefined;
  readonly upgrade?: string | undefined;
}

/** Whether the body is short enough to be read for an id, which only a length tells beforehand. */
export function isReadableBody({ isChunked, contentLength = 0, upgrade }: Framing): boolean {
  if (isChunked || upgrade !== undefined) return false;
  return contentLength > 0 && contentLength <= MAX_BODY_BYTES;
}

/**
 * Whether the body of a request may hold its id: JSON, of a request whose head has none. The caller knows its
 * length.
 */
export function createBodyCheck(
  protocols: readonly Protocol[],
  readIds: ReadRequestIds,
): (head: RequestHead) => boolean {
  const locations = protocols.flatMap(({ idLocations }) =>
    idLocations.flatMap((location) => (location.in === 'body' ? [location] : [])),
  );
  if (locations.length === 0) return () => false;
  return (head) =>
    locations.some(({ when }) => when?.(head) !== false) &&
    headerMatches(head.rawHeaders, 'content-type', JSON_TYPE) &&
    !hasCertainId(readIds(head));
}

function hasCertainId(ids: RequestIds): boolean {
  if (ids.kind === 'found' && ids.otherwise) return hasCertainId(ids.otherwise);
  return ids.kind !== 'none';
}

function readIds(reader: IdReader, head: RequestHead, hints: boolean): RequestIds | undefined {
  const reading = reader.read(head);
  if (reading === undefined) return undefined;
  // Another app may send a list under that name.
  if (reading === CONFLICT && reader.protocol.isOfAuto) return undefined;
  if (reading === CONFLICT) return { kind: 'conflict', name: locationName(reader.location) };
  if (typeof reading === 'string') return foundId(reader, reading, hints);
  const [first, ...others] = reading.flatMap((text) => foundId(reader, text, hints) ?? []);
  return first && (others.length > 0 ? { ...first, others } : first);
}

function foundId(
  { mayCarryHint, protocol }: IdReader,
  reading: string,
  hints: boolean,
): (FoundId & { readonly kind: 'found' }) | undefined {
  const wholeId = parseSessionId(reading);
  const hinted = hints && mayCarryHint ? splitOwnerHint(reading) : undefined;
  if (hinted) {
    return { kind: 'found', id: hinted.id, hintedId: wholeId, hint: hinted.machine, protocol };
  }
  if (wholeId === undefined) return undefined;
  return { kind: 'found', id: wholeId, hintedId: undefined, hint: undefined, protocol };
}
