/**
 * The hint: `~<machine>` at the end of an id that an app has minted, as the client sees it. It says
 * which Machine to ask first; a forged one spoils its sender's own request and nothing else.
 */
import { findCookieValue } from './cookie.ts';
import { createIdReaders, type IdReader } from './id-locations.ts';
import type { Protocol } from './protocol.ts';
import { decodeQueryText, findQuery, findQueryValue, startOfLastCharacters } from './query.ts';
import { createHeaderSpotter, isHeader, type RequestHead, textAt } from './heads.ts';
import { type MachineId, parseMachineId, parseSessionId, type SessionId } from '../session.ts';

const HINT_MARK = '~';

/** The parts of a hinted id; `undefined` if there is no hint or what is before it is no id. */
export function splitOwnerHint(text: string): { id: SessionId; machine: MachineId } | undefined {
  const mark = text.lastIndexOf(HINT_MARK);
  if (mark <= 0) return undefined;
  const machine = parseMachineId(text.slice(mark + 1));
  const id = machine && parseSessionId(text.slice(0, mark));
  return machine && id && { id, machine };
}

/**
 * The id as a client sees it, escaped or not. The app's own `~` is left alone: the last one counts.
 */
export function withOwnerHint(id: string, machine: MachineId): string {
  return id + HINT_MARK + machine;
}

/** What of a request a hint may be in. */
type Hintable = Pick<RequestHead, 'target' | 'rawHeaders'>;

/**
 * Takes the hints off a request before the app sees it, at every configured place, byte for byte the
 * same otherwise; what had none is returned as it is. An id equal to `whole` is left alone: the
 * caller knows that its hint-like end belongs to it.
 */
export type RemoveOwnerHints = (head: RequestHead, whole?: SessionId) => Hintable;

/** Rewrites one text of a request; returns the same one if it holds no hint. */
type Clean = (text: string, whole: SessionId | undefined) => string;

export function createOwnerHintRemover(protocols: readonly Protocol[]): RemoveOwnerHints {
  const places = createIdReaders(protocols).filter((place) => place.readsHint);
  const cleanTarget = createTargetCleaner(places);
  const headerCleaners = createHeaderCleaners(places);
  const spotsHeader = createHeaderSpotter(headerCleaners.map(([name]) => name));

  return (head, whole) => {
    const target = cleanTarget(head.target, whole);
    const rawHeaders = spotsHeader(head.rawHeaders)
      ? cleanHeaders(head.rawHeaders, headerCleaners, whole)
      : head.rawHeaders;
    const isSame = target === head.target && rawHeaders === head.rawHeaders;
    return isSame ? head : { target, rawHeaders };
  };
}

function createTargetCleaner(places: readonly IdReader[]): Clean {
  const names = places.flatMap(({ location: source }) =>
    source.in === 'query' ? [source.name] : [],
  );
  return (target, whole) => {
    // Without a mark, escaped or not, there can be no hint: the usual case is over here.
    if (!target.includes(HINT_MARK) && !target.includes('%')) return target;
    return names.reduce((text, name) => cleanQuery(text, name, whole), target);
  };
}

function cleanQuery(target: string, name: string, whole: SessionId | undefined): string {
  const query = findQuery(target);
  let cleaned = '';
  let from = 0;
  let span = query && findQueryValue(target, name, query);
  while (query && span) {
    const hintLength = lengthOfHint(decodeQueryText(textAt(target, span)), whole);
    if (hintLength > 0) {
      cleaned += target.slice(from, startOfLastCharacters(target, span.end, hintLength));
      from = span.end;
    }
    span = findQueryValue(target, name, { start: span.end + 1, end: query.end });
  }
  return cleaned + target.slice(from);
}

type HeaderCleaner = readonly [name: string, clean: Clean];

function createHeaderCleaners(places: readonly IdReader[]): readonly HeaderCleaner[] {
  return places.flatMap(({ location: source }): HeaderCleaner[] => {
    if (source.in === 'header') return [[source.name, cleanValue]];
    if (source.in !== 'cookie') return [];
    return [['cookie', (header, whole) => cleanCookies(header, source.name, whole)]];
  });
}

function cleanHeaders(
  rawHeaders: readonly string[],
  cleaners: readonly HeaderCleaner[],
  whole: SessionId | undefined,
): readonly string[] {
  let cleaned: string[] | undefined;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    for (const [name, clean] of cleaners) {
      if (!isHeader(rawHeaders[i], name)) continue;
      const value = (cleaned ?? rawHeaders)[i + 1] ?? '';
      const cleanedValue = clean(value, whole);
      if (cleanedValue !== value) (cleaned ??= [...rawHeaders])[i + 1] = cleanedValue;
    }
  }
  return cleaned ?? rawHeaders;
}

function cleanValue(value: string, whole: SessionId | undefined): string {
  return value.slice(0, value.length - lengthOfHint(value, whole));
}

function cleanCookies(header: string, name: string, whole: SessionId | undefined): string {
  let cleaned = '';
  let from = 0;
  for (let span = findCookieValue(header, name, 0); span;) {
    const hintLength = lengthOfHint(textAt(header, span), whole);
    if (hintLength > 0) {
      cleaned += header.slice(from, span.end - hintLength);
      from = span.end;
    }
    span = findCookieValue(header, name, span.end);
  }
  return cleaned + header.slice(from);
}

function lengthOfHint(text: string, whole: SessionId | undefined): number {
  if (text === whole) return 0;
  const hinted = splitOwnerHint(text);
  return hinted ? text.length - hinted.id.length : 0;
}
