/** What the header lines of a response reveal, and how the client may see them. */
import type { Clock } from '../clock.ts';
import { findSetCookieValue, isExpiringSetCookie } from './cookie.ts';
import {
  isHeader,
  replaceAt,
  textAt,
  type RequestHead,
  type ResponseHead,
  type Span,
} from './heads.ts';
import type { RequestIds } from './request-ids.ts';
import { createIdReaders, createReader, type IdReader } from './id-locations.ts';
import { splitOwnerHint, withOwnerHint } from './owner-hint.ts';
import {
  CONFLICT,
  type DiscoveredId,
  type Discovery,
  type Protocol,
  type UrlIdLocation,
} from './protocol.ts';
import { parseSessionId, type MachineId, type SessionId } from '../session.ts';

export interface HeaderDiscoveries {
  readonly discovered: readonly DiscoveredId[];
  /** A cookie that held the request's session expires, and the same response does not set it again. */
  readonly hasEnded: boolean;
  readonly rawHeaders: readonly string[];
}

export interface HeaderDiscoverer {
  /** The headers that may reveal an id, in lower case. */
  readonly names: readonly string[];
  inspect(request: RequestHead, ids: RequestIds, response: ResponseHead): HeaderDiscoveries;
}

/** What one line reveals: an id and where in the line it is, or the end of its cookie. */
type LineContent =
  { readonly kind: 'id'; readonly id: SessionId; readonly span: Span } | { readonly kind: 'end' };

interface RevealingHeader {
  readonly header: string;
  /** Whether its ids go out with a hint. */
  readonly addsHint: boolean;
  readonly protocol: Protocol;
  readonly readLine: (value: string) => LineContent | undefined;
}

/** `hint`: the Machine whose hint new ids get, if any. */
export function createHeaderDiscoverer(
  protocols: readonly Protocol[],
  options: { readonly hint: MachineId | undefined; readonly clock: Clock },
): HeaderDiscoverer {
  const headers = createRevealingHeaders(protocols, options.clock);
  const idReaders = createIdReaders(protocols);

  const inspect: HeaderDiscoverer['inspect'] = (request, ids, response) => {
    const discovered = new Map<SessionId, DiscoveredId>();
    const rawHeaders = [...response.rawHeaders];
    let isExpired = false;
    let isRenewed = false;

    for (const { content, at, protocol, addsHint } of findRevealingLines(rawHeaders, headers)) {
      const isOwn = ids.kind === 'found' && ids.protocol.name === protocol.name;
      if (content.kind === 'end') {
        isExpired ||= isOwn;
        continue;
      }
      const { id, span } = content;
      isRenewed ||= isOwn && id === ids.id;
      const carried = findCarried(request, idReaders, id, options.hint !== undefined);
      if (carried === undefined) discovered.set(id, { id, protocol });
      if (!addsHint) continue;
      const outgoing = carried ?? (options.hint ? withOwnerHint(id, options.hint) : id);
      rawHeaders[at] = replaceAt(rawHeaders[at] ?? '', span, outgoing);
    }
    return {
      discovered: [...discovered.values()],
      hasEnded: isExpired && !isRenewed,
      rawHeaders,
    };
  };

  return { names: headers.map(({ header }) => header), inspect };
}

interface RevealingLine {
  readonly content: LineContent;
  /** Index of the line's value in the raw headers. */
  readonly at: number;
  readonly protocol: Protocol;
  readonly addsHint: boolean;
}

function findRevealingLines(
  rawHeaders: readonly string[],
  headers: readonly RevealingHeader[],
): readonly RevealingLine[] {
  const lines: RevealingLine[] = [];
  for (let at = 1; at < rawHeaders.length; at += 2) {
    for (const { header, protocol, addsHint, readLine } of headers) {
      if (!isHeader(rawHeaders[at - 1], header)) continue;
      const content = readLine(rawHeaders[at] ?? '');
      if (content) lines.push({ content, at, protocol, addsHint });
    }
  }
  return lines;
}

/**
 * The text of that id in the request, with its hint: an id that comes back is not new, whatever its location
 * was, and goes out in the form in which the client knows it.
 */
function findCarried(
  request: RequestHead,
  idReaders: readonly IdReader[],
  id: SessionId,
  hints: boolean,
): string | undefined {
  for (const { read, mayCarryHint } of idReaders) {
    const reading = read(request);
    if (reading === undefined || reading === CONFLICT) continue;
    const texts = typeof reading === 'string' ? [reading] : reading;
    const mayBeHinted = hints && mayCarryHint;
    const carried = texts.find(
      (text) => text === id || (mayBeHinted && splitOwnerHint(text)?.id === id),
    );
    if (carried !== undefined) return carried;
  }
  return undefined;
}

function createRevealingHeaders(
  protocols: readonly Protocol[],
  clock: Clock,
): readonly RevealingHeader[] {
  return protocols.flatMap((protocol) =>
    protocol.discoveries.flatMap((discovery): RevealingHeader[] => {
      const header = createRevealingHeader(discovery, clock);
      return header ? [{ ...header, protocol }] : [];
    }),
  );
}

function createRevealingHeader(
  discovery: Discovery,
  clock: Clock,
): Omit<RevealingHeader, 'protocol'> | undefined {
  switch (discovery.from) {
    case 'header':
      return {
        ...{ header: discovery.name, addsHint: discovery.isPlain !== true },
        readLine: readWholeLine,
      };
    case 'set-cookie':
      return {
        ...{ header: 'set-cookie', addsHint: true },
        readLine: createSetCookieReader(discovery.name, clock),
      };
    case 'location':
      return {
        ...{ header: 'location', addsHint: false },
        readLine: createUrlReader(discovery.idLocation),
      };
    case 'sse-endpoint':
    case 'body':
    case 'sse-message':
      return undefined;
  }
}

function readWholeLine(value: string): LineContent | undefined {
  return idAt(value, { start: 0, end: value.length });
}

/** The scheme and the host of a URL. */
const ORIGIN = /^(?:https?:)?\/\/[^/?#]*/i;

function createUrlReader(idLocation: UrlIdLocation): RevealingHeader['readLine'] {
  const read = createReader(idLocation);
  return (value) => {
    const target = value.replace(ORIGIN, '');
    const text = read({ method: 'GET', target, rawHeaders: [] });
    const id = typeof text === 'string' ? parseSessionId(text) : undefined;
    return id && { kind: 'id', id, span: { start: 0, end: value.length } };
  };
}

function createSetCookieReader(name: string, clock: Clock): RevealingHeader['readLine'] {
  return (value) => {
    const span = findSetCookieValue(value, name);
    if (!span) return undefined;
    return isExpiringSetCookie(value, clock) ? { kind: 'end' } : idAt(value, span);
  };
}

/** A malformed id passes as it is. */
function idAt(value: string, span: Span): LineContent | undefined {
  const id = parseSessionId(textAt(value, span));
  return id === undefined ? undefined : { kind: 'id', id, span };
}
