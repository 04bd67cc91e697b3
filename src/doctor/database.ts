/** Looks at the database that the fleet shares, through the client that it needs. */
import type { Clock } from '../clock.ts';
import type { StoreUrl } from '../config/parsers.ts';
import { errorCodeOf, withTimeout } from './probe.ts';
import type { DatabaseLook } from './store.ts';
import { StoreError } from '../store/store.ts';

/** Each step has a shorter limit of its own; this is for what they do not foresee. */
const LIMIT_MS = 8_000;

/** Never rejects. */
export function probeDatabase(url: StoreUrl, clock: Clock): Promise<DatabaseLook> {
  const late = failed('no answer in time');
  const look = async (signal: AbortSignal): Promise<DatabaseLook> => {
    try {
      return await lookThrough(url, clock, signal);
    } catch (error) {
      return failed(reasonOf(error));
    }
  };
  return withTimeout(clock, LIMIT_MS, look, late);
}

/** Loaded only where it is used, as for the store itself. */
async function lookThrough(
  { kind, href }: StoreUrl,
  clock: Clock,
  signal: AbortSignal,
): Promise<DatabaseLook> {
  switch (kind) {
    case 'redis': {
      const { probeRedis: lookAtRedis } = await import('./redis.ts');
      return lookAtRedis(href, clock, signal);
    }
    case 'postgres': {
      const [{ probePostgres: lookAtPostgres }, { toPostgresStoreError: toStoreError }] =
        await Promise.all([import('./postgres.ts'), import('../store/postgres/errors.ts')]);
      try {
        return await lookAtPostgres(href, clock);
      } catch (error) {
        throw toStoreError('connecting', error);
      }
    }
    case 'memory':
      return failed('it is in memory');
  }
}

function failed(reason: string): DatabaseLook {
  return { facts: { kind: 'fails', reason }, clocks: [] };
}

/** The sentences of StoreErrors show no credentials; what others say is not known. */
function reasonOf(error: unknown): string {
  return error instanceof StoreError ? error.message : errorCodeOf(error);
}

/** A user name, a password or a query may be in the URL. */
export function nameOfDatabase({ href }: StoreUrl): string {
  const { protocol, host, pathname } = new URL(href);
  return `${protocol}//${host}${pathname}`;
}
