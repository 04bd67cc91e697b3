/** Postgres stores for tests, closed after them; each test in a namespace of its own. */
import { randomUUID } from 'node:crypto';
import type { TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { openPostgresStore, type PostgresStoreOptions } from '../../src/store/postgres/postgres.ts';
import type { SessionStore, StoreError } from '../../src/store/store.ts';

export interface Watched {
  readonly store: SessionStore;
  /** What it told of itself, as in `passing: the connection failed: …`. */
  readonly told: string[];
  readonly disruptions: () => number;
}

const namespaces = new WeakMap<TestContext, string>();

export function namespaceOf(t: TestContext): string {
  const namespace = namespaces.get(t) ?? randomUUID();
  namespaces.set(t, namespace);
  return namespace;
}

/** By the system's clock, and the server's own, unless told otherwise. */
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
  const told: string[] = [];
  let disruptions = 0;
  const store = await openPostgres(t, url, {
    onError: ({ code, message }: StoreError) => told.push(`${code}: ${message}`),
    onDisrupted: () => (disruptions += 1),
    ...options,
  });
  return { store, told, disruptions: () => disruptions };
}
