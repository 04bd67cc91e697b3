/** The random choices of one step of the load: the same for the same seed and position. */
import { seededRandom } from '../support/seeded-random.ts';

export interface Chance {
  isTrue(probability: number): boolean;
  /** From `min` to `max`, both included. */
  integer(min: number, max: number): number;
  /** The same, with as many sizes of each order of magnitude. `min` is above 0. */
  size(min: number, max: number): number;
  pick<T>(list: readonly T[]): T;
}

export function createChance(...position: readonly number[]): Chance {
  const random = seededRandom(
    position.reduce((mixed, part) => Math.imul(mixed, 65_599) + part, 17),
  );
  const integer = (min: number, max: number): number =>
    min + Math.floor(random() * (max - min + 1));
  return {
    isTrue: (probability) => random() < probability,
    integer,
    size: (min, max) => Math.round(min * (max / min) ** random()),
    pick: (list) => list[integer(0, list.length - 1)] as (typeof list)[number],
  };
}
