/**
 * Checks that the edge's replay cache is keyed on the session, and suggests a section that is.
 * https://fly.io/docs/networking/dynamic-request-routing/
 */
import type { Config } from '../config/config.ts';
import type { FlyToml, ReplayCacheSection, Service } from './fly-toml.ts';
import { type Finding, error, note, ok, warning } from './report.ts';
import { sidecarServices } from './service.ts';
import { MCP_TASKS } from '../protocols/mcp.ts';
import { listedNames } from '../protocols/setting.ts';
import type { IdLocation, Protocol } from '../protocols/protocol.ts';

/** A request field that Fly.io can key a replay cache on. */
interface CacheKey {
  readonly type: 'header' | 'cookie';
  readonly name: string;
}

export interface CacheSettings {
  /** `REPLAY_CACHEABLE`: whether the cache accepts the replays of the sidecar. */
  readonly isCacheable: boolean;
  /** `AFFINITY_COOKIE`: its value names a Machine, so it is a valid key too. */
  readonly affinityCookie: string | undefined;
  /** The section of the sidecar's service in `fly.toml`; `http_service` by default. */
  readonly section?: Service['section'];
}

export function checkReplayCaches(
  toml: FlyToml,
  config: Config,
  settings: CacheSettings,
): Finding[] {
  const keys = cacheKeys(config.protocols, settings.affinityCookie);
  const caches = sidecarServices(toml, config).flatMap(({ replayCaches }) => replayCaches);
  if (caches.length === 0) return noCache(keys, settings);
  const lines = linesOf(keys, settings);
  return [...caches.flatMap((cache) => checkCache(cache, keys, lines)), ...checkReplays(settings)];
}

/** The keys of the configured protocols, in their order, without duplicates. */
export function cacheKeys(
  protocols: readonly Protocol[],
  affinityCookie: string | undefined,
): CacheKey[] {
  const ofProtocols = protocols.flatMap(({ idLocations: sources }) =>
    sources.flatMap((s) => keyOf(s) ?? []),
  );
  const all: CacheKey[] =
    affinityCookie === undefined
      ? ofProtocols
      : [...ofProtocols, { type: 'cookie', name: affinityCookie }];
  return all.filter((key, index) => all.findIndex((other) => isSame(other, key)) === index);
}

/** The cache has no type for a query or a path. */
function keyOf(source: IdLocation): CacheKey | undefined {
  switch (source.in) {
    case 'header':
    case 'cookie':
      return { type: source.in, name: source.name };
    default:
      return undefined;
  }
}

function isSame(left: CacheKey, right: CacheKey): boolean {
  if (left.type !== right.type) return false;
  // Names of headers are case-insensitive (RFC 9110 §5.1), names of cookies are case-sensitive.
  return left.type === 'cookie'
    ? left.name === right.name
    : left.name.toLowerCase() === right.name.toLowerCase();
}

const MIN_TTL_SECONDS = 10;
const TTL_SECONDS = 60;

/** A `replay_cache` section for `fly.toml`, and the protocols that no cache can serve. */
export function adviseReplayCache(
  protocols: readonly Protocol[],
  settings: CacheSettings,
): Finding {
  const keys = cacheKeys(protocols, settings.affinityCookie);
  const without = listedNames(
    protocols.filter((protocol) => isNamed(protocol) && !protocol.idLocations.some(keyOf)),
  ).map((name) => (name === 'auto' ? 'other protocols of auto' : name));
  const rest =
    without.length === 0
      ? ''
      : ` A replay cache cannot use a query or a path, so there is none for ${without.join(', ')}.`;
  if (keys.length === 0) {
    return note(
      'No replay cache can serve these protocols.',
      `Every request takes two hops if it reaches another Machine first.${rest}`,
    );
  }
  const condition = settings.isCacheable ? '' : ' It needs REPLAY_CACHEABLE=true.';
  return note(
    'fly.toml can have a replay cache for SESSION_PROTOCOLS.',
    `With the cache, most requests of a session skip the first hop.${condition}${rest}`,
    linesOf(keys, settings),
  );
}

/** Empty without keys. */
function linesOf(keys: readonly CacheKey[], { section = 'http_service' }: CacheSettings): string {
  const options = section === 'http_service' ? 'http_service' : 'services.ports';
  const lines = keys.flatMap(({ type, name }) => [
    `[[${options}.http_options.replay_cache]]`,
    '  path_prefix = "/"',
    `  ttl_seconds = ${TTL_SECONDS}`,
    `  type = "${type}"`,
    `  name = ${JSON.stringify(name)}`,
  ]);
  return lines.join('\n');
}

function noCache(keys: readonly CacheKey[], settings: CacheSettings): Finding[] {
  if (!settings.isCacheable) return [];
  if (keys.length === 0) {
    return [
      warning(
        'REPLAY_CACHEABLE is true, but no protocol has its id in a header or a cookie.',
        'A replay cache cannot use anything else, and cacheable replays have no timeout and no fallback.',
        'REPLAY_CACHEABLE=false',
      ),
    ];
  }
  return [
    warning(
      'REPLAY_CACHEABLE is true, but fly.toml has no replay_cache.',
      'Fly.io caches nothing, and cacheable replays have no timeout and no fallback.',
      linesOf(keys, settings),
    ),
  ];
}

function checkReplays({ isCacheable }: CacheSettings): Finding[] {
  if (isCacheable) return [];
  return [
    warning(
      'fly.toml has a replay_cache, but REPLAY_CACHEABLE is false.',
      'The cache ignores replays with a timeout and a fallback, so it stays empty.',
      '[env]\n  REPLAY_CACHEABLE = "true"\nor no replay_cache',
    ),
  ];
}

function checkCache(
  { type, name, ttlSeconds }: ReplayCacheSection,
  keys: readonly CacheKey[],
  lines: string,
): Finding[] {
  if ((type !== 'header' && type !== 'cookie') || name === undefined) {
    return [
      error(
        `A replay_cache has ${name === undefined ? 'no name' : `the type "${type ?? ''}"`}.`,
        'The type must be "header" or "cookie", and the name the name of the header or cookie.',
        lines || 'no replay_cache',
      ),
    ];
  }
  const findings: Finding[] = [];
  if (!keys.some((key) => isSame(key, { type, name }))) {
    findings.push(
      error(
        `A replay_cache is keyed on the ${type} ${name}, which does not hold a session id.`,
        'The cache sends all sessions with the same value to one Machine, which must forward most of ' +
          'them: the cache adds a hop instead of saving one.',
        lines || 'no replay_cache: none can serve these protocols',
      ),
    );
  }
  if (ttlSeconds === undefined || ttlSeconds < MIN_TTL_SECONDS) {
    findings.push(
      error(
        `ttl_seconds of the replay_cache of ${name} is ${ttlSeconds ?? 'not set'}.`,
        `Fly.io requires at least ${MIN_TTL_SECONDS}.`,
        `  ttl_seconds = ${TTL_SECONDS}`,
      ),
    );
  }
  return findings.length > 0
    ? findings
    : [ok(`The replay cache is keyed on the session (${name}).`)];
}

/** False for MCP tasks: they are part of `mcp`, and no setting names them. */
export function isNamed(protocol: Protocol): boolean {
  return protocol !== MCP_TASKS;
}
