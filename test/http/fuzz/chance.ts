/** Reproducible random choices: the seed and the number of the case determine all of them. */
import { seededRandom } from '../../e2e/support/seeded-random.ts';

export class Chance {
  readonly #random: () => number;

  constructor(seed: number, caseNumber: number) {
    this.#random = seededRandom(
      Math.imul(seed, 0x9e3779b1) ^ Math.imul(caseNumber + 1, 0x85ebca6b),
    );
  }

  /** An integer from 0 up to but not including `limit`. */
  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  /** An integer, both ends included. */
  between(least: number, most: number): number {
    return least + this.below(most - least + 1);
  }

  happens(probability: number): boolean {
    return this.#random() < probability;
  }

  pick<Item>(items: readonly Item[]): Item {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new Error('there is nothing to pick from');
    return item;
  }
}
