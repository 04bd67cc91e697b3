/** Tells of each operation how it ended and how long it took, and counts those that failed. */
import type { Clock } from '../clock.ts';
import type { OnStoreOperation, StoreOperation } from './store.ts';
import type { StoreCounters } from './write-methods.ts';

/** Passes on what `run` gives or throws. */
export type Timed = <Result>(
  operation: StoreOperation,
  run: () => Promise<Result>,
) => Promise<Result>;

export function createTimed(
  clock: Clock,
  counters: Pick<StoreCounters, 'errors'>,
  onOperation: OnStoreOperation | undefined,
): Timed {
  return async (operation, run) => {
    const startedAt = clock.monotonicMs();
    try {
      const result = await run();
      onOperation?.(operation, 'ok', clock.monotonicMs() - startedAt);
      return result;
    } catch (error) {
      counters.errors += 1;
      onOperation?.(operation, 'error', clock.monotonicMs() - startedAt);
      throw error;
    }
  };
}
