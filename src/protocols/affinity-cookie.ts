/**
 * The affinity cookie: for browsers, and apps without any session id. It names the Machine that served last,
 * and when it was issued: `NAME=148e21ea7e5689.thz3f1` (seconds since the epoch, base 36). Which Machine serves
 * is no secret on Fly.io, so it needs no signature: a forged one spoils its sender's own requests.
 *
 *     request ─ names no Machine ─> served by any ─────────> the response sets the cookie
 *             ├ names this one ──> served here ────────────> set again once a tenth of its time is over
 *             └ names another ───> sent there; if that one is gone: served here, set again
 *
 * Where the app has stopped, the cookie is expired: the next request goes to any Machine.
 */
import { findCookieValue } from './cookie.ts';
import { readCookieValues } from './id-locations.ts';
import {
  headerIncludes,
  isHeader,
  type RequestHead,
  type ResponseHead,
  isReplayResponse,
} from './heads.ts';
import { parseMachineId, type MachineId } from '../session.ts';

export interface AffinityCookie {
  /** The Machines that a request's cookies of this name name, in their order: usually one or none. */
  readonly read: (head: Pick<RequestHead, 'rawHeaders'>) => readonly MachineId[];
  /** The headers for the app, without this cookie. The given array if the cookie is absent. */
  removeFrom(rawHeaders: readonly string[]): readonly string[];
  /** The headers of a response of the local app; the given array if the client's cookie is fresh enough. */
  addTo(response: ResponseHead, request: RequestHead): readonly string[];
  /** The headers that expire the cookie, if the request's names this Machine; else none. */
  expire(request: RequestHead): readonly string[];
}

export interface AffinityCookieOptions {
  /** A token (RFC 6265 §4.1.1). */
  readonly name: string;
  readonly self: MachineId;
  /** How long the cookie lives if it is not used, in ms. */
  readonly ttlMs: number;
  /** Wall time in ms since the epoch. */
  readonly now: () => number;
}

interface Issued {
  readonly machine: MachineId;
  readonly atSeconds: number;
}

const SCHEME_HEADER = 'x-forwarded-proto';
/** Read from requests; in lower case. */
export const COOKIE_HEADERS = ['cookie', SCHEME_HEADER];
/** The part of its time after which a cookie is set again. */
const RENEWED_AFTER = 0.1;
const MS_PER_SECOND = 1_000;

export function createAffinityCookie(options: AffinityCookieOptions): AffinityCookie {
  const { name, self, now } = options;
  const maxAgeSeconds = Math.max(1, Math.ceil(options.ttlMs / MS_PER_SECOND));

  const isFresh = ({ machine, atSeconds }: Issued): boolean => {
    const ageSeconds = now() / MS_PER_SECOND - atSeconds;
    return machine === self && ageSeconds >= -1 && ageSeconds < maxAgeSeconds * RENEWED_AFTER;
  };
  const lineOf = (isSecure: boolean): string => {
    const issued = Math.floor(now() / MS_PER_SECOND).toString(36);
    const secure = isSecure ? '; Secure' : '';
    return `${name}=${self}.${issued}; Path=/; Max-Age=${maxAgeSeconds}; HttpOnly${secure}; SameSite=Lax`;
  };

  return {
    read: ({ rawHeaders }) => {
      const values = readCookieValues(rawHeaders, name);
      return values.length === 0
        ? NONE
        : values.flatMap((value) => parseIssued(value)?.machine ?? []);
    },
    removeFrom: (rawHeaders) => withoutCookie(rawHeaders, name),
    addTo: (response, request) => {
      const { rawHeaders } = response;
      if (!mayCarryCookie(response, request)) return rawHeaders;
      const [value, ...others] = readCookieValues(request.rawHeaders, name);
      const issued = value !== undefined && others.length === 0 ? parseIssued(value) : undefined;
      if (issued && isFresh(issued)) return rawHeaders;
      return [...rawHeaders, 'set-cookie', lineOf(isEncrypted(request))];
    },
    expire: ({ rawHeaders }) =>
      readCookieValues(rawHeaders, name).some((value) => parseIssued(value)?.machine === self)
        ? ['set-cookie', `${name}=; Path=/; Max-Age=0`]
        : [],
  };
}

/** The edge reports the client's scheme (Fly.io, "Request headers"). */
function isEncrypted({ rawHeaders }: RequestHead): boolean {
  return headerIncludes(rawHeaders, SCHEME_HEADER, 'https');
}

const NONE: readonly MachineId[] = [];

/** `machine.seconds`; no sidecar sets a value of another form. */
function parseIssued(value: string): Issued | undefined {
  const [, machineText = '', seconds = ''] = /^([a-z0-9]+)\.([0-9a-z]{1,10})$/.exec(value) ?? [];
  const machine = parseMachineId(machineText);
  return machine === undefined ? undefined : { machine, atSeconds: parseInt(seconds, 36) };
}

function withoutCookie(rawHeaders: readonly string[], name: string): readonly string[] {
  const kept: string[] = [];
  let isChanged = false;
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const [field = '', value = ''] = [rawHeaders[i], rawHeaders[i + 1]];
    if (!isHeader(field, 'cookie') || !findCookieValue(value, name, 0)) {
      kept.push(field, value);
      continue;
    }
    isChanged = true;
    const others = value.split(';').filter((pair) => !findCookieValue(pair, name, 0));
    if (others.length > 0) kept.push(field, others.join(';').trimStart());
  }
  return isChanged ? kept : rawHeaders;
}

/**
 * Not an interim response, none that the edge discards, and none that a cache may serve to others (RFC 9111
 * §5.2.2): all of them would follow one client's cookie.
 */
function mayCarryCookie(response: ResponseHead, { method }: RequestHead): boolean {
  const { statusCode, rawHeaders } = response;
  const isInterim = statusCode < 200 && statusCode !== 101;
  if (isInterim || method === 'OPTIONS' || isReplayResponse(response)) return false;
  const hasDirective = (directive: string): boolean =>
    headerIncludes(rawHeaders, 'cache-control', directive);
  const isForAll = ['public', 's-maxage', 'immutable'].some(hasDirective);
  // A response with only `max-age`, such as a static file, may also be stored by shared caches.
  const isKept = hasDirective('max-age=') && !hasDirective('max-age=0');
  const isForOne = ['private', 'no-store'].some(hasDirective);
  return !isForAll && (!isKept || isForOne);
}
