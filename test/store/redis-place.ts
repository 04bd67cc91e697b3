/** Redis stores for tests, closed after them. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { openRedisStore, type RedisStoreOptions } from '../../src/store/redis.ts';
import type { SessionStore, StoreError } from '../../src/store/store.ts';

export interface Watched {
  readonly store: SessionStore;
  /** What it told of itself, as in `passing: the connection failed: …`. */
  readonly told: string[];
  /** How often a connection was given up. */
  readonly disruptions: () => number;
}

export async function openRedis(
  t: TestContext,
  url: string,
  options: Partial<RedisStoreOptions> = {},
): Promise<SessionStore> {
  const store = await openRedisStore({
    url,
    namespace: 'test',
    clock: systemClock,
    limits: { maxSessions: 1_000_000, maxAgeMs: 0 },
    random: Math.random,
    ...options,
  });
  t.after(() => store.close());
  return store;
}

export async function openWatched(
  t: TestContext,
  url: string,
  options: Partial<RedisStoreOptions> = {},
): Promise<Watched> {
  const told: string[] = [];
  let disruptions = 0;
  const store = await openRedis(t, url, {
    onError: ({ code, message }: StoreError) => told.push(`${code}: ${message}`),
    onDisrupted: () => (disruptions += 1),
    ...options,
  });
  return { store, told, disruptions: () => disruptions };
}

const POLL_MS = 10;
const GIVE_UP_AFTER_MS = 15_000;

/** For what other processes do in their own time. */
export async function eventually(
  what: string,
  isSo: () => boolean | Promise<boolean>,
): Promise<void> {
  const deadline = performance.now() + GIVE_UP_AFTER_MS;
  while (!(await isSo())) {
    assert.ok(performance.now() < deadline, `not so after ${GIVE_UP_AFTER_MS} ms: ${what}`);
    await systemClock.sleep(POLL_MS);
  }
}
