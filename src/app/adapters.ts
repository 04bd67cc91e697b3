/** Creates the adapter for each port. */
import {
  createCountedStore,
  createSessionCounter,
  startResync,
  type Resync,
} from '../store/session-counter.ts';
import type { Clock } from '../clock.ts';
import type { Config, StoreConfig } from '../config/config.ts';
import {
  createCheckProbe,
  createConnectProbe,
  createUpstreamHealth,
  type UpstreamHealth,
} from '../proxy/upstream-health.ts';
import type { Logger } from '../observability/log.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { Tracing } from '../observability/tracing.ts';
import { readVersion } from '../package.ts';
import {
  type StoreHealth,
  StoreError,
  type OnStoreOperation,
  type SessionStore,
  type StoreLimits,
} from '../store/store.ts';
import { createMemoryStore } from '../store/memory.ts';
import { openResilientStore, type ResilientOptions } from '../store/resilient/resilient-store.ts';
import { openSqliteStore } from '../store/sqlite/sqlite.ts';
import { messageOf } from '../errors.ts';

export interface AdapterParts {
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export interface OpenedStore {
  readonly store: SessionStore;
  readonly health: () => StoreHealth;
}

/** Never rejects: a store that can't be opened yet counts as failing. */
export async function openStore(config: Config, parts: AdapterParts): Promise<OpenedStore> {
  const { store: settings, identity } = config;
  const { clock, random, logger, metrics } = parts;
  const { isEnabled, url } = settings;
  if (!isEnabled || url?.kind === 'memory') {
    const store = createMemoryStore({ clock, limits: limitsOf(settings) });
    return { store, health: () => HEALTHY };
  }
  const onOperation: OnStoreOperation = (operation, outcome, durationMs) => {
    metrics.storeOperation(operation, outcome);
    metrics.storeOperationTime(durationMs, operation);
  };
  const storeParts = { clock, random, onOperation };
  const store = await openResilientStore({
    ...storeParts,
    kind: url?.kind ?? 'sqlite',
    isShared: url !== undefined,
    self: identity.machine,
    limits: limitsOf(settings),
    ttlMs: settings.ttlMs,
    // The file's writer retries itself, as only it can preserve the order of the writes.
    retryCount: url === undefined ? 0 : settings.retryCount,
    retryDelayMs: settings.retryDelayMs,
    open: (hooks) => openConfiguredStore(settings, { ...storeParts, ...hooks }),
    ...(url && { openJournal: () => openJournal(settings, { clock, random }) }),
    ...createStoreReports(logger, metrics),
  });
  return { store, health: () => store.health() };
}

interface CountedStore extends Resync {
  readonly store: SessionStore;
  /** Whether this Machine owns the maximum number of sessions. */
  readonly isFull: () => boolean;
}

/** Counts only if there is a limit. */
export function countSessions(
  { store: settings, identity, maxSessionsPerMachine: limit }: Config,
  { clock, random, metrics }: AdapterParts,
  { store, health }: OpenedStore,
): CountedStore {
  if (limit === 0) return { store, isFull: () => false, ...NO_RESYNC };
  const { ttlMs, maxAgeMs } = settings;
  const counter = createSessionCounter({ self: identity.machine, clock, limit, ttlMs, maxAgeMs });
  metrics.ownSessions(() => counter.count());
  return {
    store: createCountedStore(store, counter),
    isFull: () => counter.isFull(),
    ...startResync(store, counter, { clock, random, isWhole: () => isWhole(health()) }),
  };
}

/** While the store can't be read, the local copy may be incomplete. */
function isWhole({ state, failing }: StoreHealth): boolean {
  return state !== 'recovering' && (failing === 'none' || failing === 'writes');
}

const NO_RESYNC: Resync = { cancel: () => undefined, ended: () => Promise.resolve() };

/** The file holds pending changes for the database. Optional: a fleet may have no volumes. */
async function openJournal(settings: StoreConfig, parts: StoreParts): Promise<SessionStore> {
  try {
    return await openFile(settings, parts);
  } catch (cause) {
    throw new StoreError('fatal', `${NO_JOURNAL_FILE}: ${messageOf(cause)}`, { cause });
  }
}

const NO_JOURNAL_FILE =
  'no journal: writes accepted while the database is unreachable are lost on restart';

const HEALTHY: StoreHealth = {
  ...{ state: 'healthy', failing: 'none', code: undefined, reason: undefined, forMs: 0 },
  writeBack: { depth: 0, ageMs: 0, isDurable: false },
};

type StoreReports = Pick<ResilientOptions, 'onHealth' | 'onError' | 'onWrittenBack'>;

/** One line per change, not per request. */
function createStoreReports(logger: Logger, metrics: Metrics): StoreReports {
  return {
    onHealth: (store) => {
      if (store.state === 'degraded') logger.warn({ store }, DEGRADED);
      else logger.info({ store }, store.state === 'healthy' ? HEALTHY_AGAIN : RECOVERING);
    },
    onError: (error) => logger.error({ err: error }, 'session store failed'),
    onWrittenBack: (result, conflict) => {
      metrics.storeChangeFlushed(result);
      if (!conflict) return;
      metrics.claimConflict();
      const { key, accepted, owner } = conflict;
      logger.warn({ session: key, accepted, owner }, BOUND_ELSEWHERE);
    },
  };
}

const DEGRADED = 'session store failing: lookups use the local copy, writes wait in the outbox';
const RECOVERING = 'session store reachable, flushing the backlog';
const HEALTHY_AGAIN = 'session store recovered, backlog flushed';
const BOUND_ELSEWHERE =
  'session accepted during a store failure is bound elsewhere: the other owner stays';

/** Probes nothing before its start. */
export function watchUpstream(config: Config, parts: AdapterParts): UpstreamHealth {
  const { upstreamUrl: origin, upstreamCheck } = config;
  const { clock, logger, metrics } = parts;
  const health = createUpstreamHealth({
    clock,
    check: upstreamCheck && {
      probe: createCheckProbe({ origin, clock }, upstreamCheck.path, upstreamCheck.host),
      intervalMs: upstreamCheck.intervalMs,
    },
    connect: createConnectProbe({ origin, clock }),
    onChange: (upstream) => {
      if (upstream.state === 'down') logger.warn({ upstream }, APP_IS_DOWN);
      else logger.info({ upstream }, APP_IS_UP);
    },
  });
  metrics.upstreamUp(() => (health.isUp() ? 1 : 0));
  return health;
}

const APP_IS_DOWN = 'the app is down: new sessions go to other Machines';
const APP_IS_UP = 'the app is up again: new sessions are placed here';

/** Undefined if there are no traces: their packages are loaded only for a collector. Never rejects. */
export async function openTracing(
  { tracing, identity }: Config,
  parts: AdapterParts,
): Promise<Tracing | undefined> {
  if (!tracing) return undefined;
  const { attributes, ...options } = tracing;
  const { machine, app, region } = identity;
  const version = readVersion();
  const resource = {
    ...{ 'service.name': 'fly-affinity', 'service.version': version },
    'service.instance.id': machine,
    ...(region !== undefined && { 'cloud.region': region }),
    ...(app !== undefined && { 'fly.app': app }),
    ...attributes,
  };
  try {
    const { createOtlpTracing } = await import('../observability/otlp-tracing.ts');
    return createOtlpTracing({ ...options, resource }, { ...parts, version });
  } catch (error) {
    parts.logger.error({ err: error }, 'could not load OpenTelemetry: there are no traces');
    return undefined;
  }
}

/** Whether all Machines share the store. */
export function isSharedStore({ url }: StoreConfig): boolean {
  return url !== undefined && url.kind !== 'memory';
}

export interface StoreParts {
  readonly clock: Clock;
  readonly random: () => number;
  readonly onOperation?: OnStoreOperation;
  /** Errors that reach no caller: a file in quarantine, a lost connection. */
  readonly onError?: (error: StoreError) => void;
  /** A connection to a shared database broke: acknowledged writes may be lost. */
  readonly onDisrupted?: () => void;
}

/** Opens the configured store. Rejects with a StoreError that states where, what was found and what to do. */
export async function openConfiguredStore(
  settings: StoreConfig,
  parts: StoreParts,
): Promise<SessionStore> {
  const { url } = settings;
  const limits = limitsOf(settings);
  if (!settings.isEnabled || url?.kind === 'memory') {
    return createMemoryStore({ clock: parts.clock, limits });
  }
  if (url === undefined) return openFile(settings, parts);
  const { href } = url;
  const { namespace } = settings;
  // Imported only when used: most sidecars need no database client.
  switch (url.kind) {
    case 'redis': {
      const { openRedisStore } = await import('../store/redis/redis.ts');
      return openRedisStore({ url: href, namespace, limits, ...parts });
    }
    case 'postgres': {
      const { openPostgresStore } = await import('../store/postgres/postgres.ts');
      return openPostgresStore({ url: href, namespace, limits, ...parts });
    }
  }
}

/** The file on this Machine, independent of the configuration. */
function openFile(settings: StoreConfig, parts: StoreParts): Promise<SessionStore> {
  const { path, retryCount, retryDelayMs } = settings;
  return openSqliteStore({ path, retryCount, retryDelayMs, limits: limitsOf(settings), ...parts });
}

export function limitsOf({ maxSessions, maxAgeMs }: StoreConfig): StoreLimits {
  return { maxSessions, maxAgeMs };
}
