/**
 * The owner hint: `~<machine>` at the end of an id that an app has minted, as the client sees it. It says
 * which Machine to ask first; a forged one spoils its sender's own request and nothing else.
 */
import { findCookieValue } from './cookie.ts';
import { createIdReaders, type IdReader } from './id-locations.ts';
import { cutOwnParameter } from './own-parameter.ts';
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

/** The id as a client sees it, escaped or not. A `~` of the app's own does no harm: the last one counts. */
export function withOwnerHint(id: string, machine: MachineId): string {
  return id + HINT_MARK + machine;
}

/** The parts of a request that may carry a hint. */
type Hintable = Pick<RequestHead, 'target' | 'rawHeaders'>;

/**
 * Removes the hints from a request before the app sees it, at every configured location, and the sidecar's own
 * parameter; byte for byte the same otherwise. Returns the given object if there was none. An id equal to `whole` stays as it is: the
 * caller knows that its hint-like end belongs to it.
 */
export type RemoveOwnerHints = (head: RequestHead, whole?: SessionId) => Hintable;

/** Removes the hints from one text of a request; returns the same text if it has none. */
type Clean = (text: string, whole: SessionId | undefined) => string;

export function createOwnerHintRemover(
  protocols: readonly Protocol[],
  options: { readonly hints: boolean },
): RemoveOwnerHints {
  const readers = options.hints
    ? createIdReaders(protocols).filter(({ mayCarryHint }) => mayCarryHint)
    : [];
  const mayAddParameter = protocols.some(({ discoveries }) =>
    discoveries.some(
      (discovery) =>
        discovery.from === 'sse-endpoint' ||
        (discovery.from === 'location' && 'prefix' in discovery.idLocation),
    ),
  );
  const cleanQueries = createTargetCleaner(readers);
  const cleanTarget: Clean = mayAddParameter
    ? (target, whole) => cleanQueries(cutOwnParameter(target), whole)
    : cleanQueries;
  const headerCleaners = createHeaderCleaners(readers);
  const hasHintableHeader = createHeaderSpotter(headerCleaners.map(([name]) => name));

  return (head, whole) => {
    const target = cleanTarget(head.target, whole);
    const rawHeaders = hasHintableHeader(head.rawHeaders)
      ? cleanHeaders(head.rawHeaders, headerCleaners, whole)
      : head.rawHeaders;
    const isSame = target === head.target && rawHeaders === head.rawHeaders;
    return isSame ? head : { target, rawHeaders };
  };
}

function createTargetCleaner(readers: readonly IdReader[]): Clean {
  const names = readers.flatMap(({ location }) => (location.in === 'query' ? [location.name] : []));
  return (target, whole) => {
    // Without a mark, escaped or not, there can be no hint: the usual case ends here.
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

function createHeaderCleaners(readers: readonly IdReader[]): readonly HeaderCleaner[] {
  return readers.flatMap(({ location }): HeaderCleaner[] => {
    if (location.in === 'header') return [[location.name, cleanValue]];
    if (location.in !== 'cookie') return [];
    return [['cookie', (header, whole) => cleanCookies(header, location.name, whole)]];
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
