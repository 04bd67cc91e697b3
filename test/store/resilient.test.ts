/** The contract holds for a store that is wrapped, whatever it is. */
import type { TestContext } from 'node:test';
import { createMemoryStore } from '../../src/store/memory.ts';
import { storeContract, type OpenOptions } from './contract.ts';
import { createPlace, type Place } from './place.ts';
import { openWrapped } from './wrapped.ts';

storeContract(
  'wrapped memory',
  (t, options) =>
    openWrapped(t, options, { open: () => Promise.resolve(createMemoryStore(options)) }),
  { canShare: false },
);

/** One place a test, however many stores it opens. */
const places = new WeakMap<TestContext, Promise<Place>>();

storeContract(
  'wrapped SQLite',
  async (t: TestContext, options: OpenOptions) => {
    const placing = places.get(t) ?? createPlace(t);
    places.set(t, placing);
    const files = await placing;
    const { clock, limits, place } = options;
    return openWrapped(t, options, {
      kind: 'sqlite',
      open: () => files.open({ path: files.path(`${place}.sqlite`), clock, limits }),
    });
  },
  { canShare: true },
);
