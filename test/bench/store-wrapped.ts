/** A store as the request path uses it: wrapped, so that its failures reach no request. */
import { systemClock, type Clock } from '../../src/clock.ts';
import {
  openResilientStore,
  type ResilientOptions,
  type ResilientStore,
} from '../../src/store/resilient/resilient-store.ts';
import { HOUR_MS, LIMITS, MACHINE } from './store-sessions.ts';

/** The maximum number of sessions in the cache of a healthy store. */
export const STANDBY_ROOM = 200_000;

export interface WrappedStore extends ResilientStore {
  /** Reports failures since the last call: they make the measurement invalid. */
  reportFailures(): void;
}

export async function openWrapped(
  kind: ResilientOptions['kind'],
  open: ResilientOptions['open'],
  options: { readonly clock?: Clock; readonly ttlMs?: number } = {},
): Promise<WrappedStore> {
  const failures: unknown[] = [];
  const store = await openResilientStore({
    ...{ kind, open, isShared: kind === 'redis' || kind === 'postgres', self: MACHINE },
    ...{ limits: LIMITS, clock: systemClock, ttlMs: HOUR_MS, random: Math.random },
    ...{ retryCount: 0, retryDelayMs: 100 },
    onHealth: (health) => failures.push(health),
    onError: (error) => failures.push(error),
    onWrittenBack: (result) => failures.push(result),
    ...options,
  });
  return Object.assign(store, {
    reportFailures: () => {
      const [first, ...others] = failures.splice(0);
      if (first !== undefined) console.error(`\n${WARNING} (and ${others.length} more):`, first);
    },
  });
}

const WARNING = 'The store has failed meanwhile: the next figures include its local copy';
