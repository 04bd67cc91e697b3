/** Random bindings. */
import fc from 'fast-check';
import type { Binding } from '../../src/session.ts';
import { keyOf, machineId } from '../support/ids.ts';

const moment = fc.integer({ min: 0, max: 8.64e15 });

export const anyBinding: fc.Arbitrary<Binding> = fc.record(
  {
    key: fc.nat().map((number) => keyOf(`id-${number}`)),
    machine: fc.stringMatching(/^[a-z0-9]{1,32}$/).map(machineId),
    origin: fc.constantFrom('learned', 'adopted', 'copied'),
    generation: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
    createdAt: moment,
    expiresAt: moment,
  },
  { noNullPrototype: true },
);
