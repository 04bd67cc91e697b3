/**
 * A query parameter of the sidecar's own, for a session whose URL has no id that could name its Machine: the
 * sidecar adds it to the URL that an `endpoint` event gives to the client, and cuts it out of the requests that
 * come back, so that the app sees each URL as it wrote it. Its value is an id that the sidecar mints.
 */
import type { Span } from './heads.ts';
import { decodeQueryText, findQuery } from './query.ts';

export const OWN_PARAMETER = 'fly-affinity';

/** Behind all others and before the fragment. An empty query stays one, so that nothing is lost at the cut. */
export function addOwnParameter(url: string, value: string): string {
  const hash = url.indexOf('#');
  const end = hash === -1 ? url.length : hash;
  const separator = findQuery(url) ? '&' : '?';
  return `${url.slice(0, end)}${separator}${OWN_PARAMETER}=${value}${url.slice(end)}`;
}

/** The target as the app wrote it; the very same text if the parameter is not in it. HOT PATH. */
export function cutOwnParameter(target: string): string {
  const query = target.includes('?') ? findQuery(target) : undefined;
  if (!query || !mayHoldIt(target)) return target;
  const kept = pairsOf(target, query).filter((pair) => !isOwn(target.slice(pair.start, pair.end)));
  const isAbsent = kept.length === pairsOf(target, query).length;
  if (isAbsent) return target;
  const text = kept.map(({ start, end }) => target.slice(start, end)).join('&');
  // The question mark came with the parameter if nothing else is behind it.
  const path = target.slice(0, kept.length === 0 ? query.start - 1 : query.start);
  return path + text + target.slice(query.end);
}

function mayHoldIt(target: string): boolean {
  return target.includes(OWN_PARAMETER) || target.includes('%');
}

function isOwn(pair: string): boolean {
  const equals = pair.indexOf('=');
  return decodeQueryText(equals === -1 ? pair : pair.slice(0, equals)) === OWN_PARAMETER;
}

function pairsOf(target: string, query: Span): readonly Span[] {
  const pairs: Span[] = [];
  for (let start = query.start; ;) {
    const mark = target.indexOf('&', start);
    const end = mark === -1 || mark > query.end ? query.end : mark;
    pairs.push({ start, end });
    if (end === query.end) return pairs;
    start = end + 1;
  }
}
