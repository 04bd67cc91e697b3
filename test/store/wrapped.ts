/** A resilient store round whatever is opened, with all that it tells. */
import type { TestContext } from 'node:test';
import type { StoreHealth, WriteBackResult } from '../../src/store/health.ts';
import {
  openResilientStore,
  type ResilientOptions,
  type ResilientStore,
} from '../../src/store/resilient.ts';
import type { Conflict } from '../../src/store/write-back.ts';
import { machineId } from '../support/ids.ts';

/** What a test has to say, and what it may. */
export type WrapOptions = Pick<ResilientOptions, 'open'> & Partial<ResilientOptions>;

export interface Wrapped extends ResilientStore {
  /** As it was reported, one entry a change. */
  readonly reported: readonly StoreHealth[];
  readonly writtenBack: readonly WriteBackResult[];
  readonly conflicts: readonly Conflict[];
  readonly errors: readonly unknown[];
}

export async function openWrapped(
  t: TestContext,
  { clock, limits }: Pick<ResilientOptions, 'clock' | 'limits'>,
  options: WrapOptions,
): Promise<Wrapped> {
  const reported: StoreHealth[] = [];
  const writtenBack: WriteBackResult[] = [];
  const conflicts: Conflict[] = [];
  const errors: unknown[] = [];
  const store = await openResilientStore({
    ...{ clock, limits, kind: 'memory', isShared: false, self: machineId('a1') },
    ...{ ttlMs: 60_000, retryCount: 0, retryDelayMs: 0, random: () => 0.5 },
    onHealth: (health) => reported.push(health),
    onError: (error) => errors.push(error),
    onWrittenBack: (result, conflict) => {
      writtenBack.push(result);
      if (conflict) conflicts.push(conflict);
    },
    ...options,
  });
  t.after(() => store.close());
  return Object.assign(store, { reported, writtenBack, conflicts, errors });
}
