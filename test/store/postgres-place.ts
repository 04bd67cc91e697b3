/** Stores in a Postgres server, each test in a namespace of its own. */
import { randomUUID } from 'node:crypto';
import type { TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { openPostgresStore, type PostgresStoreOptions } from '../../src/store/postgres.ts';
import type { SessionStore } from '../../src/store/store.ts';

const namespaces = new WeakMap<TestContext, string>();

export function namespaceOf(t: TestContext): string {
  const namespace = namespaces.get(t) ?? randomUUID();
  namespaces.set(t, namespace);
  return namespace;
}

/** Closed after the test. By the system's clock, and the server's own, unless told otherwise. */
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
