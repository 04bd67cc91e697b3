/** How many sessions there may be, and how many may be written before they are counted again. */
import type { BindingOrigin } from '../../session.ts';
import { adoptedCap, EVICTION_ORDER } from '../store.ts';

/** How many there are of each origin. */
export type Counts = Readonly<Record<BindingOrigin, number>>;

export function sumOf(counts: Counts): number {
  return counts.learned + counts.adopted + counts.copied;
}

/** How many of which origin have to go, in that order. */
export function excessOf(
  counts: Counts,
  maxSessions: number,
): readonly (readonly [origin: BindingOrigin, count: number])[] {
  const tooManyAdopted = Math.max(0, counts.adopted - adoptedCap(maxSessions));
  let left = Math.max(0, sumOf(counts) - tooManyAdopted - maxSessions);
  const excess = EVICTION_ORDER.map((origin) => {
    const beforehand = origin === 'adopted' ? tooManyAdopted : 0;
    const further = Math.min(left, counts[origin] - beforehand);
    left -= further;
    return [origin, beforehand + further] as const;
  });
  return excess.filter(([, count]) => count > 0);
}

export interface Allowance {
  /** One more was written. */
  use(origin: BindingOrigin): void;
  isUsedUp(): boolean;
  /** To be called before the rows are counted: what is written meanwhile may not be among them. */
  renew(): void;
  grant(counts: Counts): void;
}

/** So many sidecars may write at once and not exceed the bound between two counts. */
const WRITERS = 32;
/** By what part of the bound each of them may exceed it. */
const SLACK = 1 / 400;

/** None before the first count. */
export function createAllowance(maxSessions: number): Allowance {
  const used = { total: 0, adopted: 0 };
  const granted = { total: 0, adopted: 0 };
  const share = (bound: number, held: number): number =>
    Math.max((bound - held) / WRITERS, bound * SLACK);
  return {
    use: (origin) => {
      used.total += 1;
      if (origin === 'adopted') used.adopted += 1;
    },
    isUsedUp: () => used.total > granted.total || used.adopted > granted.adopted,
    renew: () => {
      used.total = 0;
      used.adopted = 0;
    },
    grant: (counts) => {
      granted.total = share(maxSessions, sumOf(counts));
      granted.adopted = share(adoptedCap(maxSessions), counts.adopted);
    },
  };
}
