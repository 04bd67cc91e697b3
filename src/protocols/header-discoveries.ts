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
import { createIdReaders, createReader, readConflict, type IdReader } from './id-locations.ts';
import { addOwnParameter, isOfOwnOrigin } from './own-parameter.ts';
import { splitOwnerHint, withOwnerHint } from './owner-hint.ts';
import {
  CONFLICT,
  type DiscoveredId,
  type Discovery,
  type Protocol,
  type UrlIdLocation,
} from './protocol.ts';
import { parseSessionId, type MachineId, type SessionId } from '../session.ts';

interface HeaderDiscoveries {
  readonly discovered: readonly DiscoveredId[];
  /** A cookie that held the request's session expires, and the same response does not set it again. */
  readonly hasEnded: boolean;
  readonly rawHeaders: readonly string[];
}

interface HeaderDiscoverer {
  /** The headers that may reveal an id, in lower case. */
  readonly names: readonly string[];
  inspect(request: RequestHead, ids: RequestIds, response: ResponseHead): HeaderDiscoveries;
}

/** What one line reveals: an id and where in the line it is, or the end of its cookie. */
type LineContent =
  | {
      readonly kind: 'id';
      readonly id: SessionId;
      readonly span: Span;
      /** The line as the client gets it, where it is not the hint that changes it. */
      readonly shown?: string;
    }
  | { readonly kind: 'end' };

interface RevealingHeader {
  readonly header: string;
  /** Whether its ids go out with a hint. */
  readonly addsHint: boolean;
  readonly protocol: Protocol;
  readonly mayRevealId: ((request: RequestHead) => boolean) | undefined;
  readonly isOfCreation?: boolean;
  readonly readLine: (value: string, request: RequestHead) => LineContent | undefined;
}

interface HeaderDiscovererOptions {
  /** The Machine whose hint new ids get, if any. */
  readonly hint: MachineId | undefined;
  readonly clock: Clock;
  readonly createId: () => string;
}

export function createHeaderDiscoverer(
  protocols: readonly Protocol[],
  options: HeaderDiscovererOptions,
): HeaderDiscoverer {
  const headers = createRevealingHeaders(protocols, options);
  const idReaders = createIdReaders(protocols);

  const inspect: HeaderDiscoverer['inspect'] = (request, ids, response) => {
    const discovered = new Map<SessionId, DiscoveredId>();
    const rawHeaders = [...response.rawHeaders];
    const isCreated = response.statusCode === 201;
    let isExpired = false;
    let isRenewed = false;

    for (const line of findRevealingLines(rawHeaders, headers, request, isCreated)) {
      const { content, at, protocol, addsHint } = line;
      const isOwn = ids.kind === 'found' && ids.protocol.name === protocol.name;
      if (content.kind === 'end') {
        isExpired ||= isOwn;
        continue;
      }
      const { id, span, shown } = content;
      isRenewed ||= isOwn && id === ids.id;
      const carried = findCarried(request, idReaders, id, options.hint !== undefined);
      if (carried === undefined) discovered.set(id, { id, protocol });
      if (shown !== undefined) rawHeaders[at] = shown;
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
  request: RequestHead,
  isCreated: boolean,
): readonly RevealingLine[] {
  const lines: RevealingLine[] = [];
  for (let at = 1; at < rawHeaders.length; at += 2) {
    for (const { header, protocol, addsHint, mayRevealId, isOfCreation, readLine } of headers) {
      if (!isHeader(rawHeaders[at - 1], header)) continue;
      if (mayRevealId?.(request) === false || (isOfCreation && !isCreated)) continue;
      const content = readLine(rawHeaders[at] ?? '', request);
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
  for (const { read, mayCarryHint, location } of idReaders) {
    const reading = read(request);
    if (reading === undefined) continue;
    const several = reading === CONFLICT ? readConflict(location, request) : reading;
    const texts = typeof several === 'string' ? [several] : several;
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
  options: HeaderDiscovererOptions,
): readonly RevealingHeader[] {
  return protocols.flatMap((protocol) =>
    protocol.discoveries.flatMap((discovery): RevealingHeader[] => {
      const header = createRevealingHeader(discovery, options);
      return header ? [{ ...header, protocol }] : [];
    }),
  );
}

function createRevealingHeader(
  discovery: Discovery,
  options: HeaderDiscovererOptions,
): Omit<RevealingHeader, 'protocol'> | undefined {
  const mayRevealId = undefined;
  switch (discovery.from) {
    case 'header': {
      const [header, addsHint] = [discovery.name, discovery.isPlain !== true];
      return { header, addsHint, mayRevealId, readLine: readWholeLine };
    }
    case 'set-cookie': {
      const readLine = createSetCookieReader(discovery.name, options.clock);
      const addsHint = discovery.isPlain !== true;
      return { header: 'set-cookie', addsHint, mayRevealId, readLine };
    }
    case 'location': {
      const { idLocation } = discovery;
      const readLine =
        'prefix' in idLocation
          ? createParameterAdder(idLocation.prefix, options)
          : createUrlReader(idLocation);
      const header = 'location';
      const { mayRevealId: mayReveal, isOfCreation = false } = discovery;
      return { header, addsHint: false, mayRevealId: mayReveal, isOfCreation, readLine };
    }
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
  return (value, request) => {
    const target = targetOf(value.replace(ORIGIN, ''), request.target);
    const text = read({ method: 'GET', target, rawHeaders: [] });
    const id = typeof text === 'string' ? parseSessionId(text) : undefined;
    return id && { kind: 'id', id, span: { start: 0, end: value.length } };
  };
}

/** A relative reference counts from the path of the request (RFC 3986 §5.2). */
function targetOf(reference: string, base: string): string {
  if (reference.startsWith('/') || !URL.canParse(reference, `${ANY_ORIGIN}${base}`))
    return reference;
  const { pathname, search } = new URL(reference, `${ANY_ORIGIN}${base}`);
  return `${pathname}${search}`;
}

const ANY_ORIGIN = 'http://origin';

/** The client requests that URL from now on, so the sidecar's own parameter in it names the session. */
function createParameterAdder(
  prefix: string,
  { hint, createId }: HeaderDiscovererOptions,
): RevealingHeader['readLine'] {
  return (value, request) => {
    const isOurs = value !== '' && isOfOwnOrigin(value, request);
    const id = isOurs ? parseSessionId(`${prefix}${createId()}`) : undefined;
    if (id === undefined) return undefined;
    const shown = addOwnParameter(value, hint === undefined ? id : withOwnerHint(id, hint));
    return { kind: 'id', id, span: { start: 0, end: value.length }, shown };
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
