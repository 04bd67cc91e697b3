/** What something leaves in memory. */
import { collectGarbage } from '../../src/collect-garbage.ts';

/** By how much the heap has grown for good, in bytes. */
export function heldAfter(step: () => void): number {
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  step();
  collectGarbage();
  return process.memoryUsage().heapUsed - before;
}
