/**
 * What was done by all the stores that stood behind one port, one after the other: a count that fell
 * back because a store was opened anew, or could not be asked, would be taken for new work.
 */
import type { StoreMetrics } from '../store.ts';
import type { StoreCounters } from '../write-methods.ts';

export interface CumulativeCounts {
  /**
   * With what was done beside the store. `held` is what the store says, undefined if it was not
   * asked: then it has said nothing new.
   */
  add(
    store: object | undefined,
    held: StoreMetrics | undefined,
    beside: StoreCounters,
  ): StoreCounters;
}

const COUNTED = ['lookups', 'upserts', 'deletes', 'errors'] as const;
type Counts = Record<(typeof COUNTED)[number], number>;

const NONE: Counts = { lookups: 0, upserts: 0, deletes: 0, errors: 0 };

export function createCumulativeCounts(): CumulativeCounts {
  let ofFormer = NONE;
  let ofLast: StoreMetrics | undefined;
  let last: object | undefined;
  return {
    add: (store, held, beside) => {
      if (held) {
        if (store !== last && ofLast) ofFormer = sum(ofFormer, ofLast);
        last = store;
        ofLast = held;
      }
      const counts = sum(sum(ofFormer, ofLast ?? NONE), beside);
      return { ...counts, lastCleanupAt: ofLast?.lastCleanupAt ?? beside.lastCleanupAt };
    },
  };
}

function sum(some: Counts, more: Counts): Counts {
  const total = { ...NONE };
  for (const name of COUNTED) total[name] = some[name] + more[name];
  return total;
}
