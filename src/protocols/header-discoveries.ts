/** What the header lines of an answer teach, and how the client may see them. */
import type { Clock } from '../clock.ts';
import { findSetCookieValue, isExpiringSetCookie } from './cookie.ts';
import type { RequestIds } from './request-ids.ts';
import { splitOwnerHint, withOwnerHint } from './owner-hint.ts';
import { createIdReaders, type IdReader } from './id-locations.ts';
import type { DiscoveredId, Discovery, Protocol } from './protocol.ts';
import {
  isHeader,
  type RequestHead,
  type ResponseHead,
  replaceAt,
  type Span,
  textAt,
} from './heads.ts';
import { type MachineId, parseSessionId, type SessionId } from '../session.ts';

export interface HeaderDiscoveries {
  readonly discovered: readonly DiscoveredId[];
  /** A cookie that held the request's session expires, and is not set anew in the same answer. */
  readonly hasEnded: boolean;
  readonly rawHeaders: readonly string[];
}

export interface HeaderDiscoverer {
  /** The headers that may teach, in lower case. */
  readonly names: readonly string[];
  read(request: RequestHead, found: RequestIds, response: ResponseHead): HeaderDiscoveries;
}

/** What one line says: an id and where in the line it is, or that its cookie ends. */
type Statement =
  { readonly kind: 'id'; readonly id: SessionId; readonly span: Span } | { readonly kind: 'end' };

interface Teacher {
  readonly header: string;
  readonly protocol: Protocol;
  readonly readLine: (value: string) => Statement | undefined;
}

/** `hint`: the Machine whose hint new ids go out with, if any. */
export function createHeaderDiscoverer(
  protocols: readonly Protocol[],
  options: { readonly hint: MachineId | undefined; readonly clock: Clock },
): HeaderDiscoverer {
  const teachers = createTeachers(protocols, options.clock);
  const places = createIdReaders(protocols);

  const read: HeaderDiscoverer['read'] = (request, found, response) => {
    const learned = new Map<SessionId, DiscoveredId>();
    const rawHeaders = [...response.rawHeaders];
    let isExpired = false;
    let isRenewed = false;

    for (const { statement, at, protocol } of findStatements(rawHeaders, teachers)) {
      const isOwn = found.kind === 'found' && found.protocol.name === protocol.name;
      if (statement.kind === 'end') {
        isExpired ||= isOwn;
        continue;
      }
      const { id, span } = statement;
      isRenewed ||= isOwn && id === found.id;
      const carried = findCarried(request, places, id, options.hint !== undefined);
      if (carried === undefined) learned.set(id, { id, protocol });
      const outgoing = carried ?? (options.hint ? withOwnerHint(id, options.hint) : id);
      rawHeaders[at] = replaceAt(rawHeaders[at] ?? '', span, outgoing);
    }
    return { discovered: [...learned.values()], hasEnded: isExpired && !isRenewed, rawHeaders };
  };

  return { names: teachers.map(({ header }) => header), read };
}

interface FoundStatement {
  readonly statement: Statement;
  /** Where the line's value is in the raw headers. */
  readonly at: number;
  readonly protocol: Protocol;
}

function findStatements(
  rawHeaders: readonly string[],
  teachers: readonly Teacher[],
): readonly FoundStatement[] {
  const statements: FoundStatement[] = [];
  for (let at = 1; at < rawHeaders.length; at += 2) {
    for (const { header, protocol, readLine } of teachers) {
      if (!isHeader(rawHeaders[at - 1], header)) continue;
      const statement = readLine(rawHeaders[at] ?? '');
      if (statement) statements.push({ statement, at, protocol });
    }
  }
  return statements;
}

/**
 * The text by which the request has carried that id, hint and all: an id that comes back is not
 * learned, whichever place it was in, and goes out in the form in which the client knows it.
 */
function findCarried(
  request: RequestHead,
  places: readonly IdReader[],
  id: SessionId,
  hints: boolean,
): string | undefined {
  for (const { read, readsHint } of places) {
    const reading = read(request);
    if (typeof reading !== 'string') continue;
    if (reading === id) return reading;
    if (hints && readsHint && splitOwnerHint(reading)?.id === id) return reading;
  }
  return undefined;
}

function createTeachers(protocols: readonly Protocol[], clock: Clock): readonly Teacher[] {
  return protocols.flatMap((protocol) =>
    protocol.discoveries.flatMap((source): Teacher[] => {
      const teacher = createTeacher(source, clock);
      return teacher ? [{ ...teacher, protocol }] : [];
    }),
  );
}

function createTeacher(source: Discovery, clock: Clock): Omit<Teacher, 'protocol'> | undefined {
  switch (source.from) {
    case 'header':
      return { header: source.name, readLine: readWholeLine };
    case 'set-cookie':
      return { header: 'set-cookie', readLine: createSetCookieLine(source.name, clock) };
    case 'sse-endpoint':
    case 'body':
    case 'sse-message':
      return undefined;
  }
}

function readWholeLine(value: string): Statement | undefined {
  return idAt(value, { start: 0, end: value.length });
}

function createSetCookieLine(name: string, clock: Clock): Teacher['readLine'] {
  return (value) => {
    const span = findSetCookieValue(value, name);
    if (!span) return undefined;
    return isExpiringSetCookie(value, clock) ? { kind: 'end' } : idAt(value, span);
  };
}

/** What is no well-formed id is none of ours: it passes as it is. */
function idAt(value: string, span: Span): Statement | undefined {
  const id = parseSessionId(textAt(value, span));
  return id === undefined ? undefined : { kind: 'id', id, span };
}
