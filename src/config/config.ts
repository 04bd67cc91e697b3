/** The configuration, parsed once from the environment and frozen. */
import type { AffinityCookieSetting } from '../protocols/affinity-cookie.ts';
import type { Protocol } from '../protocols/protocol.ts';
import type { LogFormat, LogLevel } from '../observability/log.ts';
import { checkTogether, warnAboutSuspend } from './checks.ts';
import {
  isSet,
  namesAsSet,
  warnAboutOverrides,
  withPlainNames,
  type Environment,
} from './environment.ts';
import { identityFrom, type Identity } from './identity.ts';
import type { PeerAddress, StoreUrl } from './parsers.ts';
import type { Setting } from './setting.ts';
import { SETTINGS, SETTING_NAMES, type SettingName, type SettingValues } from './settings.ts';
import {
  tracingFrom,
  warnAboutTracing,
  withoutUnknownCollector,
  type TracingConfig,
} from './tracing.ts';
import { findTypos } from './typos.ts';

export type { Environment, Identity };

export interface Config {
  readonly host: string;
  /** 0: a free one. */
  readonly port: number;
  readonly peerPort: number;
  readonly peerDialPort: number;
  readonly adminPort: number;
  /** Undefined: what needs it is not served. */
  readonly adminToken: string | undefined;
  /** An http: origin. */
  readonly upstreamUrl: URL;
  /** 0: no timeout. */
  readonly upstreamHeadTimeoutMs: number;
  readonly upstreamCheck: UpstreamCheckConfig | undefined;
  readonly maxConnections: number;
  readonly maxHeadBytes: number;
  readonly maxBufferedBytes: number;
  /** 0: no timeout. */
  readonly stallTimeoutMs: number;
  readonly protocols: readonly Protocol[];
  readonly hints: boolean;
  /** Undefined: there is no affinity cookie. */
  readonly affinityCookie: AffinityCookieSetting | undefined;
  readonly store: StoreConfig;
  /** 0: no bound. */
  readonly maxSessionsPerMachine: number;
  readonly fleet: FleetConfig;
  /** `address:port` of a DNS server; undefined: the system's. */
  readonly fleetResolver: string | undefined;
  /** 0: a Machine of a static list is never gone. */
  readonly fleetGoneAfterMs: number;
  /** Undefined: by who mints the id. */
  readonly placement: 'region' | 'fleet' | undefined;
  readonly unknownSession: 'serve' | 'reject';
  readonly ownerGone: 'reject' | 'adopt';
  readonly ownerStopped: 'wake' | 'gone';
  readonly replayTimeoutMs: number;
  /** Whether replays are such as the edge's replay cache keeps. */
  readonly replayCacheable: boolean;
  readonly replayMaxBodyBytes: number;
  readonly drainTimeoutMs: number;
  /** Undefined: this Machine does not suspend itself. */
  readonly suspend: SuspendConfig | undefined;
  readonly startTimeoutMs: number;
  readonly stopTimeoutMs: number;
  readonly logLevel: LogLevel;
  /** Undefined: by whether standard output is a terminal. */
  readonly logFormat: LogFormat | undefined;
  /** Undefined: there are no traces. */
  readonly tracing: TracingConfig | undefined;
  readonly identity: Identity;
}

export interface SuspendConfig {
  readonly afterMs: number;
  readonly socketPath: string;
}

interface UpstreamCheckConfig {
  readonly path: string;
  /** The `Host` of the check; undefined: that of the upstream. */
  readonly host: string | undefined;
  readonly intervalMs: number;
}

export interface StoreConfig {
  readonly isEnabled: boolean;
  readonly path: string;
  /** Set: takes the place of the file. */
  readonly url: StoreUrl | undefined;
  /** Keeps fleets apart that share one database. */
  readonly namespace: string;
  readonly ttlMs: number;
  /** 0: no clean-up. */
  readonly cleanupIntervalMs: number;
  readonly retryCount: number;
  readonly retryDelayMs: number;
  readonly maxSessions: number;
  /** 0: no bound. */
  readonly maxAgeMs: number;
}

type FleetConfig =
  | { readonly kind: 'off' }
  /** From Fly's DNS. */
  | { readonly kind: 'auto'; readonly appName: string }
  /** The other Machines; this one is left out. */
  | { readonly kind: 'static'; readonly peers: readonly PeerAddress[] };

type ParsedConfig =
  | { readonly config: Config; readonly warnings: readonly string[]; readonly mistakes?: never }
  | { readonly mistakes: readonly string[]; readonly config?: never; readonly warnings?: never };

/** Finds all mistakes at once. `random` makes up a Machine id where there is none. */
export function parseConfig(env: Environment, random: () => number): ParsedConfig {
  const plain = withPlainNames(withoutUnknownCollector(env));
  const { values, mistakes } = readValues(plain);
  mistakes.push(...checkTogether(values));
  // Without a mistake every row has given its value.
  if (mistakes.length > 0) return { mistakes: mistakes.map(namesAsSet(env)) };
  const config = configFrom(values as SettingValues, random);
  return {
    config: deepFreeze(config),
    warnings: [
      ...warningsAbout(config, plain).map(namesAsSet(env)),
      ...warnAboutTracing(config, env).map(namesAsSet(env)),
      ...warnAboutOverrides(env),
      ...findTypos(Object.keys(env)),
    ],
  };
}

/** What looks at a store from beside a sidecar, or from anywhere else: nothing more has to be set. */
export type ToolConfig = Pick<Config, 'host' | 'adminPort' | 'adminToken' | 'store'>;

export function parseToolConfig(
  env: Environment,
): { readonly config: ToolConfig } | { readonly mistakes: readonly string[] } {
  const { values: found, mistakes } = readValues(withPlainNames(env), TOOL_SETTINGS);
  if (mistakes.length > 0) return { mistakes: mistakes.map(namesAsSet(env)) };
  const values = found as Pick<SettingValues, (typeof TOOL_SETTINGS)[number]>;
  const { HOST: host, ADMIN_PORT: adminPort, ADMIN_TOKEN: adminToken } = values;
  return { config: deepFreeze({ host, adminPort, adminToken, store: storeFrom(values) }) };
}

const STORE_SETTINGS = [
  'SESSION_STORE_ENABLED',
  'SESSION_STORE_PATH',
  'SESSION_STORE_URL',
  'SESSION_STORE_NAMESPACE',
  'FLY_APP_NAME',
  'SESSION_STORE_TTL_MS',
  'SESSION_STORE_CLEANUP_INTERVAL_MS',
  'SESSION_STORE_RETRY_COUNT',
  'SESSION_STORE_RETRY_DELAY_MS',
  'SESSION_STORE_MAX_SESSIONS',
  'SESSION_MAX_AGE_MS',
] as const satisfies readonly SettingName[];
const TOOL_SETTINGS = [...STORE_SETTINGS, 'HOST', 'ADMIN_PORT', 'ADMIN_TOKEN'] as const;

function readValues(
  env: Environment,
  names: readonly SettingName[] = SETTING_NAMES,
): { values: Partial<SettingValues>; mistakes: string[] } {
  const values: Record<string, unknown> = {};
  const mistakes: string[] = [];
  for (const name of names) {
    const { parse, fallback }: Setting<unknown> = SETTINGS[name];
    const text = isSet(env[name]) ? env[name] : fallback;
    if (text === undefined) continue;
    const parsed = parse(text);
    if (parsed.mistakes) mistakes.push(...parsed.mistakes.map((mistake) => `${name} ${mistake}`));
    else values[name] = parsed.value;
  }
  return { values, mistakes };
}

function configFrom(values: SettingValues, random: () => number): Config {
  const identity = identityFrom(values, random);
  const { SUSPEND_AFTER: afterMs, SUSPEND_SOCKET: socketPath } = values;
  return {
    host: values.HOST,
    port: values.PORT,
    peerPort: values.PEER_PORT,
    peerDialPort: values.PEER_DIAL_PORT ?? values.PEER_PORT,
    adminPort: values.ADMIN_PORT,
    adminToken: values.ADMIN_TOKEN,
    upstreamUrl: values.UPSTREAM_URL,
    upstreamHeadTimeoutMs: values.UPSTREAM_HEAD_TIMEOUT_MS,
    maxConnections: values.MAX_CONNECTIONS,
    maxHeadBytes: values.MAX_HEAD_BYTES,
    maxBufferedBytes: values.MAX_BUFFERED_BYTES,
    stallTimeoutMs: values.STALL_TIMEOUT_MS,
    upstreamCheck: upstreamCheckFrom(values),
    protocols: values.SESSION_PROTOCOLS,
    hints: values.SESSION_ID_HINTS,
    affinityCookie: values.AFFINITY_COOKIE,
    store: storeFrom(values),
    maxSessionsPerMachine: values.MAX_SESSIONS_PER_MACHINE,
    fleet: fleetFrom(values, identity),
    fleetResolver: values.FLEET_RESOLVER,
    fleetGoneAfterMs: values.FLEET_GONE_AFTER_MS,
    placement: values.PLACEMENT,
    unknownSession: values.UNKNOWN_SESSION,
    ownerGone: values.OWNER_GONE,
    ownerStopped: values.OWNER_STOPPED,
    replayTimeoutMs: values.REPLAY_TIMEOUT_MS,
    replayCacheable: values.REPLAY_CACHEABLE,
    replayMaxBodyBytes: values.REPLAY_MAX_BODY_BYTES,
    drainTimeoutMs: values.DRAIN_TIMEOUT_MS,
    suspend: afterMs === 0 ? undefined : { afterMs, socketPath },
    startTimeoutMs: values.START_TIMEOUT_MS,
    stopTimeoutMs: values.STOP_TIMEOUT_MS,
    logLevel: values.LOG_LEVEL,
    logFormat: values.LOG_FORMAT,
    tracing: tracingFrom(values),
    identity,
  };
}

function upstreamCheckFrom(values: SettingValues): UpstreamCheckConfig | undefined {
  const { UPSTREAM_CHECK_PATH: path, UPSTREAM_CHECK_INTERVAL_MS: intervalMs } = values;
  if (path === undefined) return undefined;
  const { FLY_APP_NAME: app, UPSTREAM_CHECK_HOST: ownHost } = values;
  const host = ownHost ?? (app === undefined ? undefined : `${app}.fly.dev`);
  return { path, intervalMs, host };
}

/** Where there is no Fly app. */
const DEFAULT_NAMESPACE = 'fly-affinity';

function storeFrom(values: Pick<SettingValues, (typeof STORE_SETTINGS)[number]>): StoreConfig {
  const isInMemory = values.SESSION_STORE_PATH === ':memory:';
  return {
    isEnabled: values.SESSION_STORE_ENABLED,
    path: values.SESSION_STORE_PATH,
    url: isInMemory ? { kind: 'memory', href: 'memory:' } : values.SESSION_STORE_URL,
    namespace: values.SESSION_STORE_NAMESPACE ?? values.FLY_APP_NAME ?? DEFAULT_NAMESPACE,
    ttlMs: values.SESSION_STORE_TTL_MS,
    cleanupIntervalMs: values.SESSION_STORE_CLEANUP_INTERVAL_MS,
    retryCount: values.SESSION_STORE_RETRY_COUNT,
    retryDelayMs: values.SESSION_STORE_RETRY_DELAY_MS,
    maxSessions: values.SESSION_STORE_MAX_SESSIONS,
    maxAgeMs: values.SESSION_MAX_AGE_MS,
  };
}

function fleetFrom(values: SettingValues, { app, machine }: Identity): FleetConfig {
  const setting = values.FLEET;
  if (setting === 'off') return { kind: 'off' };
  if (setting === 'auto')
    return app === undefined ? { kind: 'off' } : { kind: 'auto', appName: app };
  // One list can serve every Machine.
  return { kind: 'static', peers: setting.filter((peer) => peer.machine !== machine) };
}

function warningsAbout(config: Config, env: Environment): string[] {
  const warnings: string[] = [];
  const { FLY_MACHINE_ID: id, FLY_ALLOC_ID: olderId, SESSION_STORE_PATH: path } = env;
  if (id && olderId && id !== olderId) {
    warnings.push(`FLY_MACHINE_ID (${id}) and FLY_ALLOC_ID (${olderId}) differ; the first is used`);
  }
  const isPathUnused = !config.store.isEnabled || config.store.url?.kind === 'memory';
  if (isPathUnused && path && path !== ':memory:') {
    warnings.push('SESSION_STORE_PATH has no effect: the store is off or in memory');
  }
  return [...warnings, ...warnAboutSuspend(config, env)];
}

function deepFreeze<Value extends object>(value: Value): Value {
  for (const part of Object.values(value)) {
    const isPlain =
      typeof part === 'object' && part !== null && !(part instanceof URL || part instanceof RegExp);
    if (isPlain && !Object.isFrozen(part)) deepFreeze(part as object);
  }
  return Object.freeze(value);
}
