/** Opens the configured store; the only place that names the adapters. */
import type { Clock } from '../clock.ts';
import type { StoreConfig } from '../config/config.ts';
import { createMemoryStore } from '../store/memory.ts';
import { openSqliteStore } from '../store/sqlite/sqlite.ts';
import type { OnStoreOperation, SessionStore, StoreError, StoreLimits } from '../store/store.ts';

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
export function openFile(settings: StoreConfig, parts: StoreParts): Promise<SessionStore> {
  const { path, retryCount, retryDelayMs } = settings;
  return openSqliteStore({ path, retryCount, retryDelayMs, limits: limitsOf(settings), ...parts });
}

export function limitsOf({ maxSessions, maxAgeMs }: StoreConfig): StoreLimits {
  return { maxSessions, maxAgeMs };
}
