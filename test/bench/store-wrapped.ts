/** A store as the request path has it: inside what lets no failure of it reach a request. */
import { systemClock, type Clock } from '../../src/clock.ts';
import {
  openResilientStore,
  type ResilientOptions,
  type ResilientStore,
} from '../../src/store/resilient/resilient-store.ts';
import { HOUR_MS, LIMITS, MACHINE } from './store-sessions.ts';

/** Sessions that a healthy store knows by itself, at most. */
export const STANDBY_ROOM = 200_000;

export interface WrappedStore extends ResilientStore {
  /** Says what has failed since it was last asked: then it was something else that was measured. */
  tellFailures(): void;
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
    tellFailures: () => {
      const [first, ...others] = failures.splice(0);
      if (first !== undefined) console.error(`\n${SAID} (and ${others.length} more):`, first);
    },
  });
}

const SAID = 'The store has failed meanwhile, so that the next figures are of its standby too';
