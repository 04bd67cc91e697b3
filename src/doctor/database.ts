/** Probes the shared database through its client library. */
import type { Clock } from '../clock.ts';
import type { StoreUrl } from '../config/parsers.ts';
import { errorCodeOf, withTimeout } from './probe.ts';
import type { ProbedDatabase } from './store.ts';
import { StoreError } from '../store/store.ts';

/** A deadline for the whole probe; each step has a shorter one. */
const PROBE_TIMEOUT_MS = 8_000;

/** Never rejects. */
export function probeDatabase(url: StoreUrl, clock: Clock): Promise<ProbedDatabase> {
  const timedOut = failed('timed out');
  const probe = async (signal: AbortSignal): Promise<ProbedDatabase> => {
    try {
      return await probeThroughClient(url, clock, signal);
    } catch (error) {
      return failed(reasonOf(error));
    }
  };
  return withTimeout(clock, PROBE_TIMEOUT_MS, probe, timedOut);
}

/** Imports a client library only when it is used, as the store does. */
async function probeThroughClient(
  { kind, href }: StoreUrl,
  clock: Clock,
  signal: AbortSignal,
): Promise<ProbedDatabase> {
  switch (kind) {
    case 'redis': {
      const { probeRedis } = await import('./redis.ts');
      return probeRedis(href, clock, signal);
    }
    case 'postgres': {
      const [{ probePostgres }, { toPostgresStoreError }] = await Promise.all([
        import('./postgres.ts'),
        import('../store/postgres/errors.ts'),
      ]);
      try {
        return await probePostgres(href, clock);
      } catch (error) {
        throw toPostgresStoreError('connecting', error);
      }
    }
    case 'memory':
      return failed('the store is in memory');
  }
}

function failed(reason: string): ProbedDatabase {
  return { facts: { kind: 'unusable', reason }, clocks: [] };
}

/** Messages of StoreErrors contain no credentials; those of other errors may. */
function reasonOf(error: unknown): string {
  return error instanceof StoreError ? error.message : errorCodeOf(error);
}

/** The URL without user name, password and query. */
export function nameOfDatabase({ href }: StoreUrl): string {
  const { protocol, host, pathname } = new URL(href);
  return `${protocol}//${host}${pathname}`;
}
