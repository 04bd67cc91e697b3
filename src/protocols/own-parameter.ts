/**
 * A query parameter of the sidecar's own, for a session whose URL has no id that could name its Machine: the
 * sidecar adds it to the URL that an `endpoint` event or a `Location` gives to the client, and cuts it out of the requests that
 * come back, so that the app sees each URL as it wrote it. Its value is an id that the sidecar mints.
 */
import { headerValue, textAt, type RequestHead, type Span } from './heads.ts';
import { decodeQueryText, findQuery, findQueryValues } from './query.ts';

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

/** Its value, unescaped. */
export function readOwnParameter(target: string): string | undefined {
  const value = findOwnValue(target);
  return value && decodeQueryText(textAt(target, value));
}

/** Where the last pair of that name is. */
function findOwnPair(target: string): Span | undefined {
  const value = findOwnValue(target);
  return value && { start: startOfPair(target, value.start), end: value.end };
}

function findOwnValue(target: string): Span | undefined {
  // A name may be escaped. The usual target has neither.
  const mayHaveIt = target.includes(OWN_PARAMETER) || target.includes('%');
  return mayHaveIt ? findQueryValues(target, OWN_PARAMETER).at(-1) : undefined;
}

function startOfPair(target: string, valueStart: number): number {
  return Math.max(target.lastIndexOf('&', valueStart - 1), target.indexOf('?')) + 1;
}

const AUTHORITY = /^(?:https?:)?\/\/([^/?#]*)/i;
const DEFAULT_PORT = /:(?:80|443)$/;

/** Whether a request to the URL comes back here. Its scheme may be that of the hop from the edge. */
export function isOfOwnOrigin(url: string, { host, rawHeaders }: RequestHead): boolean {
  const authority = AUTHORITY.exec(url)?.[1];
  if (authority === undefined) return !/^[a-z][a-z0-9+.-]*:/i.test(url);
  const own = host ?? headerValue(rawHeaders, 'host') ?? '';
  return normalized(authority) === normalized(own);
}

function normalized(authority: string): string {
  return authority.toLowerCase().replace(DEFAULT_PORT, '');
}
