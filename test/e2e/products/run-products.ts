/** Runs the clients of many products against one fleet, and restarts a sidecar in the middle. */
import type { SimulatedMachine } from '../../../src/simulator/machine.ts';
import type { Target } from '../support/target.ts';
import { ClientThread } from './client-run.ts';
import type { Product } from './product.ts';

/** Clients that run at the same time; the others wait at the beginning or in the middle. */
const AT_A_TIME = 4;

export interface Outcome {
  readonly product: string;
  /** `works`, or the first error. */
  readonly result: string;
  readonly error: unknown;
}

export async function runProducts(
  products: readonly Product[],
  target: Target,
  machine: SimulatedMachine,
): Promise<Outcome[]> {
  const threads = products.map(({ name }) => new ClientThread({ name, target }));
  await inTurns(threads, (thread) => thread.runFirstHalf());
  await machine.restartSidecar();
  const outcomes: Outcome[] = [];
  await inTurns(threads, async (thread) => {
    const result = await thread.finish();
    outcomes.push({ product: thread.name, result, error: thread.error });
  });
  return outcomes;
}

async function inTurns<Item>(
  items: readonly Item[],
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const left = items.values();
  const takeTurns = async (): Promise<void> => {
    for (const item of left) await work(item);
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, takeTurns));
}
