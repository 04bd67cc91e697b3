/** Which store stands behind the port: the one place that names them. */
import type { Clock } from '../clock.ts';
import type { StoreConfig } from '../config/config.ts';
import { createMemoryStore } from '../store/memory.ts';
import { openSqliteStore } from '../store/sqlite/sqlite.ts';
import type { OnStoreOperation, SessionStore, StoreError, StoreLimits } from '../store/store.ts';

export interface StoreParts {
  readonly clock: Clock;
  readonly random: () => number;
  readonly onOperation?: OnStoreOperation;
  /** What no caller hears of: a file set aside, a connection lost. */
  readonly onError?: (error: StoreError) => void;
  /** A connection to a shared database broke: what it had acknowledged may be lost. */
  readonly onDisrupted?: () => void;
}

/** Opens what is configured. Rejects with a StoreError that says where, what was found and what to do. */
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
  // Loaded only where it is used: most sidecars need no client of a database.
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

/** The file on this Machine, whatever else is configured. */
export function openFile(settings: StoreConfig, parts: StoreParts): Promise<SessionStore> {
  const { path, retryCount, retryDelayMs } = settings;
  return openSqliteStore({ path, retryCount, retryDelayMs, limits: limitsOf(settings), ...parts });
}

export function limitsOf({ maxSessions, maxAgeMs }: StoreConfig): StoreLimits {
  return { maxSessions, maxAgeMs };
}
