/**
 * The session id of a request. This runs on every request: most have no id, and those are told by
 * the lengths of their header names and the lack of a query, with nothing allocated.
 */
import { splitHint } from './hint.ts';
import { CONFLICT, createHeaderReader, createPlaces, type Place } from './places.ts';
import type { Protocol } from './protocol.ts';
import { createHeaderSpotter, type RequestHead } from './raw-headers.ts';
import { type MachineId, parseSessionId, type SessionId } from './session.ts';

export type { RequestHead } from './raw-headers.ts';

export interface FoundId {
  /** Without its hint, as the app knows it. */
  readonly id: SessionId;
  /** The whole text, if its end looks like a hint: a client's own id may happen to look so. */
  readonly hintedId: SessionId | undefined;
  readonly hint: MachineId | undefined;
  readonly protocol: Protocol;
}

export type Extraction =
  | { readonly kind: 'none' }
  /** Two different values under one name, which is a configured one. */
  | { readonly kind: 'conflict'; readonly name: string }
  | ({ readonly kind: 'found' } & FoundId);

/** Never throws: what is malformed counts as no id. */
export type Extract = (head: RequestHead) => Extraction;

const NONE: Extraction = { kind: 'none' };

const MCP_VERSION_HEADER = 'mcp-protocol-version';
/** The first MCP revision without sessions (changelog of 2026-07-28, SEP-2567). Revisions are dates. */
const FIRST_MCP_WITHOUT_SESSIONS = '2026-07-28';
const MCP_REVISION = /^\d{4}-\d{2}-\d{2}$/;

const readMcpVersion = createHeaderReader(MCP_VERSION_HEADER);

/** The first well-formed id in the order of the protocols and of their sources is the session's. */
export function createExtractor(
  protocols: readonly Protocol[],
  options: { readonly hints: boolean },
): Extract {
  const places = createPlaces(protocols);
  const placesOfNewMcp = createPlaces(protocols.filter((protocol) => !protocol.isMcp));
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
function createFirstLook(places: readonly Place[]): (head: RequestHead) => boolean {
  const readsQuery = places.some(({ source }) => source.in === 'query');
  const readsPath = places.some(({ source }) => source.in === 'path');
  const spotsHeader = createHeaderSpotter(
    places.flatMap(({ source }) => {
      if (source.in === 'header') return [source.name];
      return source.in === 'cookie' ? ['cookie'] : [];
    }),
  );
  return ({ target, rawHeaders }) =>
    readsPath || (readsQuery && target.includes('?')) || spotsHeader(rawHeaders);
}

function isMcpWithoutSessions(head: RequestHead): boolean {
  const version = readMcpVersion(head);
  if (version === undefined || version === CONFLICT) return false;
  return MCP_REVISION.test(version) && version >= FIRST_MCP_WITHOUT_SESSIONS;
}

function extractFrom(place: Place, head: RequestHead, hints: boolean): Extraction | undefined {
  const reading = place.read(head);
  if (reading === undefined) return undefined;
  const { source, protocol } = place;
  if (reading === CONFLICT) {
    return { kind: 'conflict', name: source.in === 'path' ? 'path' : source.name };
  }
  const wholeId = parseSessionId(reading);
  const hinted = hints && place.readsHint ? splitHint(reading) : undefined;
  if (hinted) {
    return { kind: 'found', id: hinted.id, hintedId: wholeId, hint: hinted.machine, protocol };
  }
  if (wholeId === undefined) return undefined;
  return { kind: 'found', id: wholeId, hintedId: undefined, hint: undefined, protocol };
}
