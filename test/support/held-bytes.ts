/** Measures retained memory. */
import { collectGarbage } from '../../src/collect-garbage.ts';

/** The permanent growth of the heap, in bytes. */
export function heldAfter(step: () => void): number {
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  step();
  collectGarbage();
  return process.memoryUsage().heapUsed - before;
}
