/**
 * The session id of a request. This runs on every request: most have none, which the lengths of their header
 * names and the lack of a query tell without an allocation.
 */
import { createHeaderSpotter, type RequestHead } from './heads.ts';
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
  /** Two different values under one configured name. */
  | { readonly kind: 'conflict'; readonly name: string }
  | ({
      readonly kind: 'found';
      /** More values of the same cookie, behind this one: the first that has an owner is the session. */
      readonly others?: readonly FoundId[];
    } & FoundId);

/** Never throws: a malformed id counts as none. */
export type ReadRequestIds = (head: RequestHead) => RequestIds;

const NONE: RequestIds = { kind: 'none' };

/** The session id is the first well-formed one, in the order of the protocols and of their locations. */
export function createRequestIdReader(
  protocols: readonly Protocol[],
  options: { readonly hints: boolean },
): ReadRequestIds {
  const readers = createIdReaders(protocols);
  const readersWithoutMcp = createIdReaders(protocols.filter((protocol) => !protocol.isMcp));
  const mayHoldId = createQuickCheck(readers);

  return (head) => {
    if (!mayHoldId(head)) return NONE;
    for (const reader of isMcpWithoutSessions(head) ? readersWithoutMcp : readers) {
      const ids = readIds(reader, head, options.hints);
      if (ids) return ids;
    }
    return NONE;
  };
}

/** Whether a request may have an id at all: it has the header of one, or a query, or the path counts. */
function createQuickCheck(readers: readonly IdReader[]): (head: RequestHead) => boolean {
  const readsQuery = readers.some(({ location }) => location.in === 'query');
  const readsPath = readers.some(({ location }) => location.in === 'path');
  const hasIdHeader = createHeaderSpotter(
    readers.flatMap(({ location }) => {
      if (location.in === 'header') return [location.name];
      if (location.in === 'head') return [location.header];
      return location.in === 'cookie' ? ['cookie'] : [];
    }),
  );
  return ({ target, rawHeaders }) =>
    readsPath || (readsQuery && target.includes('?')) || hasIdHeader(rawHeaders);
}

function readIds(reader: IdReader, head: RequestHead, hints: boolean): RequestIds | undefined {
  const reading = reader.read(head);
  if (reading === undefined) return undefined;
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
