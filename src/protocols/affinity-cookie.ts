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
import type { Clock } from '../clock.ts';
import { findCookieValue, findSetCookieValue, parseCookieDate } from './cookie.ts';
import { createCookieCheck, readCookieValues } from './id-locations.ts';
import {
  headerMatches,
  headerValue,
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
  /** A quick check before {@link addTo}, for which the parser builds the array of all fields. */
  mayAddTo(response: ResponseHead, request: RequestHead): boolean;
  /** The headers of a response of the local app; the given array if the client's cookie is fresh enough. */
  addTo(response: ResponseHead, request: RequestHead): readonly string[];
  /** The headers that expire the cookie, if the request's names this Machine; else none. */
  expire(request: RequestHead): readonly string[];
}

export interface AffinityCookieSetting {
  /** A token (RFC 6265 §4.1.1). */
  readonly name: string;
  /** Sent from frames of other sites too, where the client uses https. */
  readonly isCrossSite: boolean;
  /** One cookie a surrounding site (CHIPS): browsers block cookies that are shared between sites. */
  readonly isPartitioned: boolean;
}

export interface AffinityCookieOptions extends AffinityCookieSetting {
  readonly self: MachineId;
  /** How long the cookie lives if it is not used, in ms. */
  readonly ttlMs: number;
  readonly clock: Pick<Clock, 'now'>;
  /** Set only beside one of these cookies of the app; without them, on every response. */
  readonly beside?: readonly string[];
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
  const { name, self, clock } = options;
  const maxAgeSeconds = Math.max(1, Math.ceil(options.ttlMs / MS_PER_SECOND));

  const isBesideAnother = createCompanionCheck(options.beside);
  const isFresh = ({ machine, atSeconds }: Issued): boolean => {
    const ageSeconds = clock.now() / MS_PER_SECOND - atSeconds;
    return machine === self && ageSeconds >= -1 && ageSeconds < maxAgeSeconds * RENEWED_AFTER;
  };
  const attributesFor = (isSecure: boolean): string => {
    if (!isSecure) return 'SameSite=Lax';
    // Browsers take SameSite=None only with Secure.
    const sameSite = options.isCrossSite ? 'None' : 'Lax';
    return `Secure; SameSite=${sameSite}${options.isPartitioned ? '; Partitioned' : ''}`;
  };
  const lineOf = (request: RequestHead): string => {
    const issued = Math.floor(clock.now() / MS_PER_SECOND).toString(36);
    const attributes = attributesFor(isEncrypted(request));
    return `${name}=${self}.${issued}; Path=/; Max-Age=${maxAgeSeconds}; HttpOnly; ${attributes}`;
  };

  return {
    read: ({ rawHeaders }) => {
      const values = readCookieValues(rawHeaders, name);
      return values.length === 0
        ? NONE
        : values.flatMap((value) => parseIssued(value)?.machine ?? []);
    },
    removeFrom: (rawHeaders) => withoutCookie(rawHeaders, name),
    mayAddTo: isBesideAnother,
    addTo: (response, request) => {
      const { rawHeaders } = response;
      if (!isBesideAnother(response, request)) return rawHeaders;
      const issued = readCookieValues(request.rawHeaders, name).map(parseIssued);
      const isOurs = issued.every((value) => value?.machine === self);
      const isRenewed = isOurs && issued.some((value) => value !== undefined && isFresh(value));
      if (isRenewed || !mayCarryCookie(response, request, clock)) return rawHeaders;
      return [...rawHeaders, 'set-cookie', lineOf(request)];
    },
    expire: (request) => {
      const values = readCookieValues(request.rawHeaders, name);
      if (!values.some((value) => parseIssued(value)?.machine === self)) return [];
      return ['set-cookie', `${name}=; Path=/; Max-Age=0; ${attributesFor(isEncrypted(request))}`];
    },
  };
}

/** Whether the client has one of these cookies, or gets one now. */
function createCompanionCheck(
  names: readonly string[] | undefined,
): (response: ResponseHead, request: RequestHead) => boolean {
  if (names === undefined) return () => true;
  const mayHaveCookie = createCookieCheck(names);
  return (response, request) =>
    (mayHaveCookie(request.rawHeaders) &&
      names.some((name) => readCookieValues(request.rawHeaders, name).length > 0)) ||
    (hasHeader(response.selected ?? response.rawHeaders, 'set-cookie') &&
      names.some((name) => setsCookie(response.rawHeaders, name)));
}

function hasHeader(rawHeaders: readonly string[], lowerName: string): boolean {
  return headerValue(rawHeaders, lowerName) !== undefined;
}

function setsCookie(rawHeaders: readonly string[], name: string): boolean {
  return rawHeaders.some(
    (value, at) =>
      at % 2 === 1 &&
      isHeader(rawHeaders[at - 1], 'set-cookie') &&
      findSetCookieValue(value, name) !== undefined,
  );
}

/** The edge reports the client's scheme (Fly.io, "Request headers"). */
function isEncrypted({ rawHeaders }: RequestHead): boolean {
  return headerMatches(rawHeaders, SCHEME_HEADER, /https/i);
}

const NONE: readonly MachineId[] = [];

/** `machine.seconds`; no sidecar sets a value of another form. */
function parseIssued(value: string): Issued | undefined {
  const [, machineText = '', seconds = ''] = /^([a-z0-9]+)\.([0-9a-z]{1,10})$/.exec(value) ?? [];
  const machine = parseMachineId(machineText);
  return machine === undefined ? undefined : { machine, atSeconds: parseInt(seconds, 36) };
}

function withoutCookie(rawHeaders: readonly string[], name: string): readonly string[] {
  if (readCookieValues(rawHeaders, name).length === 0) return rawHeaders;
  const kept: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const [field = '', value = ''] = [rawHeaders[i], rawHeaders[i + 1]];
    if (!isHeader(field, 'cookie') || !findCookieValue(value, name, 0)) {
      kept.push(field, value);
      continue;
    }
    const others = value.split(';').filter((pair) => !findCookieValue(pair, name, 0));
    if (others.length > 0) kept.push(field, others.join(';').trimStart());
  }
  return kept;
}

/** Not an interim response, none that the edge discards, and none that a cache may serve to others. */
function mayCarryCookie(
  response: ResponseHead,
  { method }: RequestHead,
  clock: Pick<Clock, 'now'>,
): boolean {
  const isInterim = response.statusCode < 200 && response.statusCode !== 101;
  if (isInterim || method === 'OPTIONS' || isReplayResponse(response)) return false;
  return !mayBeShared(response.rawHeaders, clock);
}

/**
 * For caches in front of the app (RFC 9213; Edge Architecture Specification). Each cache knows some of them, so the
 * response may be kept if any field allows it.
 */
const TARGETED_FIELDS = ['cdn-cache-control', 'cloudflare-cdn-cache-control', 'surrogate-control'];

/**
 * Whether a cache may keep the response and serve it to other clients (RFC 9111 §3), all of which would follow
 * one client's cookie then. A response that says nothing counts as not kept: caches do not store one that sets
 * a cookie by their own estimate.
 */
function mayBeShared(rawHeaders: readonly string[], clock: Pick<Clock, 'now'>): boolean {
  if (TARGETED_FIELDS.some((field) => allowsSharing(directivesIn(rawHeaders, field)))) return true;
  const directives = directivesIn(rawHeaders, 'cache-control');
  if (allowsSharing(directives)) return true;
  if (isForOne(directives) || directives.has('max-age')) return false;
  const expiresAt = parseCookieDate(headerValue(rawHeaders, 'expires') ?? '');
  return expiresAt !== undefined && expiresAt > clock.now();
}

function allowsSharing(directives: ReadonlyMap<string, number>): boolean {
  if (['public', 's-maxage', 'immutable'].some((name) => directives.has(name))) return true;
  const maxAge = directives.get('max-age');
  return maxAge !== undefined && maxAge !== 0 && !isForOne(directives);
}

function isForOne(directives: ReadonlyMap<string, number>): boolean {
  return directives.has('private') || directives.has('no-store');
}

/** With their numbers; NaN for what has none. The first of a name counts; `private="x-foo"` keeps only that field. */
function directivesIn(rawHeaders: readonly string[], field: string): ReadonlyMap<string, number> {
  const directives = new Map<string, number>();
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!isHeader(rawHeaders[i], field)) continue;
    for (const directive of (rawHeaders[i + 1] ?? '').toLowerCase().split(',')) {
      const [name = '', value = ''] = directive.split('=', 2).map((part) => part.trim());
      if (name !== '' && !directives.has(name) && !(name === 'private' && value !== ''))
        directives.set(name, /^"?\d+"?$/.test(value) ? Number(value.replaceAll('"', '')) : NaN);
    }
  }
  return directives;
}
