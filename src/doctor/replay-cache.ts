/**
 * The edge's replay cache: whether it is keyed on the session, and the section that would be.
 * https://fly.io/docs/networking/dynamic-request-routing/
 */
import type { Config } from '../config/config.ts';
import type { FlyToml, ReplayCacheSection, Service } from './fly-toml.ts';
import { type Finding, error, note, ok, warning } from './report.ts';
import { sidecarServices } from './service.ts';
import { MCP_TASKS } from '../protocols/mcp.ts';
import type { IdLocation, Protocol } from '../protocols/protocol.ts';

/** What a cache can be keyed on. */
export interface CacheKey {
  readonly type: 'header' | 'cookie';
  readonly name: string;
}

export interface CacheSettings {
  /** `REPLAY_CACHEABLE`: whether replays are such that the cache takes them. */
  readonly isCacheable: boolean;
  /** `AFFINITY_COOKIE`: its value names a Machine, so it is as good as a session's. */
  readonly affinityCookie: string | undefined;
  /** Where `fly.toml` has the service of the sidecar; `http_service` by default. */
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

/** Of the configured protocols, in their order, each once. */
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
  // Names of headers are the same in any case (RFC 9110 §5.1), those of cookies are not.
  return left.type === 'cookie'
    ? left.name === right.name
    : left.name.toLowerCase() === right.name.toLowerCase();
}

const MIN_TTL_SECONDS = 10;
const TTL_SECONDS = 60;

/** Lines for `fly.toml`, and for what they are good; with a sentence on what no cache can do. */
export function adviseReplayCache(
  protocols: readonly Protocol[],
  settings: CacheSettings,
): Finding {
  const keys = cacheKeys(protocols, settings.affinityCookie);
  const without = protocols
    .filter((protocol) => isNamed(protocol) && !protocol.idLocations.some(keyOf))
    .map(({ name }) => name);
  const rest =
    without.length === 0
      ? ''
      : ` The cache has no type for a query or a path, so there is none for ${without.join(', ')}.`;
  if (keys.length === 0) {
    return note(
      'No replay cache fits these protocols.',
      `Every request takes the first hop.${rest}`,
    );
  }
  const condition = settings.isCacheable ? '' : ' It wants REPLAY_CACHEABLE=true.';
  return note(
    'This is the replay cache that fits SESSION_PROTOCOLS.',
    `With it most requests of a session skip the first hop.${condition}${rest}`,
    linesOf(keys, settings),
  );
}

/** Empty if there is no key. */
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
        'REPLAY_CACHEABLE is true, and no protocol has an id in a header or a cookie.',
        'The replay cache has no other type: replays only lose their timeout and their fallback.',
        'REPLAY_CACHEABLE=false',
      ),
    ];
  }
  return [
    warning(
      'REPLAY_CACHEABLE is true, and fly.toml has no replay_cache.',
      'Nothing is cached, and replays have neither timeout nor fallback.',
      linesOf(keys, settings),
    ),
  ];
}

function checkReplays({ isCacheable }: CacheSettings): Finding[] {
  if (isCacheable) return [];
  return [
    warning(
      'There is a replay_cache, and REPLAY_CACHEABLE is false.',
      'The cache takes no replay with a timeout and a fallback, so it stays empty.',
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
        'Its type is "header" or "cookie", and its name that of the header or the cookie.',
        lines || 'no replay_cache',
      ),
    ];
  }
  const findings: Finding[] = [];
  if (!keys.some((key) => isSame(key, { type, name }))) {
    findings.push(
      error(
        `A replay_cache is keyed on the ${type} ${name}, which is not where a session is.`,
        'Sessions that share its value are all sent to one Machine, and from there to their own: ' +
          'the cache then costs the hop that it is to save.',
        lines || 'no replay_cache: none fits these protocols',
      ),
    );
  }
  if (ttlSeconds === undefined || ttlSeconds < MIN_TTL_SECONDS) {
    findings.push(
      error(
        `ttl_seconds of the replay_cache of ${name} is ${ttlSeconds ?? 'not set'}.`,
        `Fly.io wants ${MIN_TTL_SECONDS} at least.`,
        `  ttl_seconds = ${TTL_SECONDS}`,
      ),
    );
  }
  return findings.length > 0
    ? findings
    : [ok(`The replay cache is keyed on the session (${name}).`)];
}

/** Not the tasks of newer revisions: they come with `mcp`, and nobody knows them by their name. */
export function isNamed(protocol: Protocol): boolean {
  return protocol !== MCP_TASKS;
}
