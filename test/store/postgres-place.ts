/** Postgres stores for tests, closed after them; each test has its own namespace. */
import { randomUUID } from 'node:crypto';
import type { TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { openPostgresStore, type PostgresStoreOptions } from '../../src/store/postgres/postgres.ts';
import type { SessionStore, StoreError } from '../../src/store/store.ts';

export interface Watched {
  readonly store: SessionStore;
  /** The errors that it reported, as in `passing: the connection failed: …`. */
  readonly errors: string[];
  readonly disruptions: () => number;
}

const namespaces = new WeakMap<TestContext, string>();

export function namespaceOf(t: TestContext): string {
  const namespace = namespaces.get(t) ?? randomUUID();
  namespaces.set(t, namespace);
  return namespace;
}

/** With the system clock and our own server, unless the options state others. */
export async function openPostgres(
  t: TestContext,
  url: string,
  options: Partial<PostgresStoreOptions> = {},
): Promise<SessionStore> {
  const store = await openPostgresStore({
    url,
    namespace: namespaceOf(t),
    clock: systemClock,
    limits: { maxSessions: 1_000_000, maxAgeMs: 0 },
    ...options,
  });
  t.after(() => store.close());
  return store;
}

export async function openWatched(
  t: TestContext,
  url: string,
  options: Partial<PostgresStoreOptions> = {},
): Promise<Watched> {
  const errors: string[] = [];
  let disruptions = 0;
  const store = await openPostgres(t, url, {
    onError: ({ code, message }: StoreError) => errors.push(`${code}: ${message}`),
    onDisrupted: () => (disruptions += 1),
    ...options,
  });
  return { store, errors, disruptions: () => disruptions };
}
