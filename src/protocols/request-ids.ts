/**
 * The session id of a request. This runs on every request: most have no id, and those are told by
 * the lengths of their header names and the lack of a query, with nothing allocated.
 */
import { isMcpWithoutSessions } from './mcp.ts';
import { splitOwnerHint } from './owner-hint.ts';
import { createIdReaders, nameOf, type IdReader } from './id-locations.ts';
import { type Protocol, CONFLICT } from './protocol.ts';
import { createHeaderSpotter, type RequestHead } from './heads.ts';
import { type MachineId, parseSessionId, type SessionId } from '../session.ts';

export interface FoundId {
  /** Without its hint, as the app knows it. */
  readonly id: SessionId;
  /** The whole text, if its end looks like a hint: a client's own id may happen to look so. */
  readonly hintedId: SessionId | undefined;
  readonly hint: MachineId | undefined;
  readonly protocol: Protocol;
}

export type RequestIds =
  | { readonly kind: 'none' }
  /** Two different values under one name, which is a configured one. */
  | { readonly kind: 'conflict'; readonly name: string }
  | ({ readonly kind: 'found' } & FoundId);

/** Never throws: what is malformed counts as no id. */
export type ReadRequestIds = (head: RequestHead) => RequestIds;

const NONE: RequestIds = { kind: 'none' };

/** The first well-formed id in the order of the protocols and of their sources is the session's. */
export function createRequestIdReader(
  protocols: readonly Protocol[],
  options: { readonly hints: boolean },
): ReadRequestIds {
  const places = createIdReaders(protocols);
  const placesOfNewMcp = createIdReaders(protocols.filter((protocol) => !protocol.isMcp));
  const mayHoldId = createFirstLook(places);

  return (head) => {
    if (!mayHoldId(head)) return NONE;
    for (const place of isMcpWithoutSessions(head) ? placesOfNewMcp : places) {
      const extraction = extractFrom(place, head, options.hints);
      if (extraction) return extraction;
    }
    return NONE;
  };
}

/** Whether it is worth a second look: an id's header is there, or a query, or the path counts. */
function createFirstLook(places: readonly IdReader[]): (head: RequestHead) => boolean {
  const readsQuery = places.some(({ location: source }) => source.in === 'query');
  const readsPath = places.some(({ location: source }) => source.in === 'path');
  const spotsHeader = createHeaderSpotter(
    places.flatMap(({ location: source }) => {
      if (source.in === 'header') return [source.name];
      if (source.in === 'head') return [source.header];
      return source.in === 'cookie' ? ['cookie'] : [];
    }),
  );
  return ({ target, rawHeaders }) =>
    readsPath || (readsQuery && target.includes('?')) || spotsHeader(rawHeaders);
}

function extractFrom(place: IdReader, head: RequestHead, hints: boolean): RequestIds | undefined {
  const reading = place.read(head);
  if (reading === undefined) return undefined;
  const { location: source, protocol } = place;
  if (reading === CONFLICT) {
    return { kind: 'conflict', name: nameOf(source) };
  }
  const wholeId = parseSessionId(reading);
  const hinted = hints && place.readsHint ? splitOwnerHint(reading) : undefined;
  if (hinted) {
    return { kind: 'found', id: hinted.id, hintedId: wholeId, hint: hinted.machine, protocol };
  }
  if (wholeId === undefined) return undefined;
  return { kind: 'found', id: wholeId, hintedId: undefined, hint: undefined, protocol };
}
