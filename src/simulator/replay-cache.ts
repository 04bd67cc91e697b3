/**
 * The edge's cache of replays, with which later requests skip the first hop
 * (https://fly.io/docs/networking/dynamic-request-routing/#replay-caching). Entries by session follow
 * the configured rules; entries by path follow the responses. Hostnames share no entries.
 */
import type { Clock } from '../clock.ts';
import type { ReplayInstruction } from '../fly.ts';
import type { ReplayRequest } from './replay.ts';
import type { EdgeMachine } from './targets.ts';

/** As `[[http_service.http_options.replay_cache]]` in fly.toml. */
export interface ReplayCacheRule {
  /** `/api` and everything below it; optionally with a hostname in front. */
  readonly pathPrefix: string;
  /** At least 10. */
  readonly ttlSeconds: number;
  readonly type: 'cookie' | 'header';
  readonly name: string;
  /** Whether clients may bypass the cache. */
  readonly allowsBypass?: boolean;
}

/** The parts of a request that identify it in the cache. */
export interface CachedRequest {
  readonly target: string;
  readonly headers: NodeJS.Dict<string | string[]>;
}

export type CacheLookup =
  | { readonly kind: 'miss' }
  /** The client bypasses the cache. */
  | { readonly kind: 'bypass' }
  | {
      readonly kind: 'hit';
      readonly instruction: ReplayInstruction;
      /** The Machine that issued the replay. */
      readonly issuer: EdgeMachine;
    };

export interface ReplayCache {
  find(request: CachedRequest): CacheLookup;
  /** Caches a cacheable replay, for the TTL of the rule or of the response. */
  keep(request: CachedRequest, wish: ReplayRequest & { kind: 'replay' }, issuer: EdgeMachine): void;
  /** Removes what {@link find} would find, by session and by path. */
  drop(request: CachedRequest): void;
}

/** "The TTL needs to be a minimum of 10 seconds". */
export const MIN_TTL_SECONDS = 10;
const MAX_SESSIONS = 100_000;
const MAX_PATHS = 10_000;
const MS_PER_SECOND = 1_000;

interface Entry {
  readonly instruction: ReplayInstruction;
  readonly issuer: EdgeMachine;
  readonly expiresAt: number;
  readonly allowsBypass: boolean;
}

/** Throws for a rule that Fly.io would reject. */
export function createReplayCache(rules: readonly ReplayCacheRule[], clock: Clock): ReplayCache {
  for (const rule of rules) checkRule(rule);
  const bySession = createBoundedMap<string, Entry>(MAX_SESSIONS);
  const byPath = createBoundedMap<string, Entry>(MAX_PATHS);

  /** Fly does not document the order; a session is more specific than a path. */
  function liveEntry(request: CachedRequest): Entry | undefined {
    const session = sessionOf(request, rules);
    const found = [
      ...(session ? [bySession.get(session.key)] : []),
      ...pathKeysOf(request).map((key) => byPath.get(key)),
    ];
    return found.find((entry) => entry !== undefined && entry.expiresAt > clock.now());
  }

  function find(request: CachedRequest): CacheLookup {
    const entry = liveEntry(request);
    const wantsBypass = request.headers['fly-replay-cache-control'] === 'skip';
    const mayBypass = entry?.allowsBypass ?? sessionOf(request, rules)?.rule.allowsBypass ?? false;
    if (wantsBypass && mayBypass) return { kind: 'bypass' };
    return entry ? { kind: 'hit', instruction: entry.instruction, issuer: entry.issuer } : MISS;
  }

  function keep(
    request: CachedRequest,
    wish: ReplayRequest & { kind: 'replay' },
    issuer: EdgeMachine,
  ): void {
    if (!isCacheable(wish)) return;
    const { instruction, cache } = wish;
    const entryFor = (ttlSeconds: number, allowsBypass: boolean): Entry => {
      const expiresAt = clock.now() + ttlSeconds * MS_PER_SECOND;
      return { instruction, issuer, expiresAt, allowsBypass };
    };
    const session = sessionOf(request, rules);
    if (session) {
      const { ttlSeconds, allowsBypass = false } = session.rule;
      bySession.set(session.key, entryFor(ttlSeconds, allowsBypass));
    }
    if (cache.kind !== 'by-path' || !(cache.ttlSeconds >= MIN_TTL_SECONDS)) return;
    const key = keyOfPattern(cache.pattern, request);
    // "The pattern must also match the current request."
    if (!pathKeysOf(request).includes(key)) return;
    byPath.set(key, entryFor(cache.ttlSeconds, cache.allowsBypass));
  }

  function drop(request: CachedRequest): void {
    const session = sessionOf(request, rules);
    if (session) bySession.delete(session.key);
    for (const key of pathKeysOf(request)) byPath.delete(key);
  }

  return { find, keep, drop };
}

const MISS: CacheLookup = { kind: 'miss' };

function checkRule({ pathPrefix, ttlSeconds }: ReplayCacheRule): void {
  if (ttlSeconds >= MIN_TTL_SECONDS) return;
  throw new RangeError(
    `replay cache of ${pathPrefix}: ttlSeconds must be at least ${MIN_TTL_SECONDS}, got ${ttlSeconds}`,
  );
}

/** A replay with any of these fields is followed, but not cached. */
function isCacheable({ instruction, transform }: ReplayRequest & { kind: 'replay' }): boolean {
  const { state, timeoutMs, fallback } = instruction;
  const { path, deletedHeaders, setHeaders } = transform;
  const isTransformed =
    path !== undefined || deletedHeaders.length > 0 || Object.keys(setHeaders).length > 0;
  return (state ?? timeoutMs ?? fallback) === undefined && !isTransformed;
}

/** The rule that applies: "the longest matching path takes precedence". */
function sessionOf(
  request: CachedRequest,
  rules: readonly ReplayCacheRule[],
): { readonly rule: ReplayCacheRule; readonly key: string } | undefined {
  const paths = pathKeysOf(request);
  const rank = (rule: ReplayCacheRule): number => {
    const at = paths.indexOf(keyOfPattern(rule.pathPrefix, request));
    return at === -1 || valueOf(request, rule) === undefined ? Infinity : at;
  };
  const [rule] = rules
    .filter((candidate) => rank(candidate) < Infinity)
    .toSorted((a, b) => rank(a) - rank(b));
  if (!rule) return undefined;
  const { type, name } = rule;
  const identity = [hostOf(request), rule.pathPrefix, type, name, valueOf(request, rule)];
  return { rule, key: JSON.stringify(identity) };
}

function valueOf({ headers }: CachedRequest, rule: ReplayCacheRule): string | undefined {
  if (rule.type === 'header') return headers[rule.name.toLowerCase()]?.toString();
  const pairs = (headers.cookie?.toString() ?? '').split(';').map((pair) => pair.trim());
  const pair = pairs.find((text) => text.startsWith(`${rule.name}=`));
  return pair?.slice(rule.name.length + 1);
}

/** `host/a/b`, `host/a`, `host`: the patterns that match, the longest first. */
function pathKeysOf(request: CachedRequest): string[] {
  const segments = pathOf(request).split('/').slice(1);
  const prefixes = segments.map((_, i) => segments.slice(0, segments.length - i).join('/'));
  const keys = prefixes.map((prefix) => `${hostOf(request)}/${prefix}`.replace(/\/+$/, ''));
  return [...new Set([...keys, hostOf(request)])];
}

/** A pattern "implicitly ends with a wildcard"; without a hostname, the request's applies. */
function keyOfPattern(pattern: string, request: CachedRequest): string {
  const text = pattern.startsWith('/') ? `${hostOf(request)}${pattern}` : pattern;
  return text.replace(/\/*\*?$/, '').replace(/\/+$/, '');
}

function pathOf({ target }: CachedRequest): string {
  return target.split('?', 1)[0] ?? '/';
}

function hostOf({ headers }: CachedRequest): string {
  return (headers.host ?? '').toString().toLowerCase().replace(/:\d+$/, '');
}

/* A map with a maximum size; when it is full, the oldest entry is dropped. */

interface BoundedMap<Key, Value> {
  get(key: Key): Value | undefined;
  set(key: Key, value: Value): void;
  delete(key: Key): void;
}

export function createBoundedMap<Key, Value>(maxEntries: number): BoundedMap<Key, Value> {
  const entries = new Map<Key, Value>();
  return {
    get: (key) => entries.get(key),
    set: (key, value) => {
      entries.delete(key);
      entries.set(key, value);
      if (entries.size <= maxEntries) return;
      const oldest = entries.keys().next();
      if (!oldest.done) entries.delete(oldest.value);
    },
    delete: (key) => void entries.delete(key),
  };
}
