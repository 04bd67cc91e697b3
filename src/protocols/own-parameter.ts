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

/**
 * The target as the app wrote it; the very same text if the parameter is not in it. Of several, the last is ours:
 * another sidecar, in front of an app behind this one's, has added its own before. HOT PATH.
 */
export function cutOwnParameter(target: string): string {
  const pair = findOwnPair(target);
  if (!pair) return target;
  const { start, end } = pair;
  if (target[start - 1] === '&') return target.slice(0, start - 1) + target.slice(end);
  // The question mark came with the parameter if nothing else is behind it.
  const isAlone = target[end] !== '&';
  return target.slice(0, isAlone ? start - 1 : start) + target.slice(isAlone ? end : end + 1);
}

/** Its value, still escaped. */
export function readOwnParameter(target: string): string | undefined {
  const pair = findOwnPair(target);
  if (!pair) return undefined;
  const text = target.slice(pair.start, pair.end);
  const equals = text.indexOf('=');
  return equals === -1 ? '' : text.slice(equals + 1);
}

/** Where the last pair of that name is. */
function findOwnPair(target: string): Span | undefined {
  if (!target.includes('?')) return undefined;
  const query = findQuery(target);
  if (!query || !(target.includes(OWN_PARAMETER) || target.includes('%'))) return undefined;
  for (let end = query.end; end >= query.start;) {
    const start = Math.max(query.start, target.lastIndexOf('&', end - 1) + 1);
    if (isOwn(target.slice(start, end))) return { start, end };
    end = start - 1;
  }
  return undefined;
}

function isOwn(pair: string): boolean {
  const equals = pair.indexOf('=');
  const name = equals === -1 ? pair : pair.slice(0, equals);
  return name === OWN_PARAMETER || (name.includes('%') && decodeQueryText(name) === OWN_PARAMETER);
}
