/** The contract holds for a wrapped local store. */
import type { TestContext } from 'node:test';
import { createMemoryStore } from '../../../src/store/memory.ts';
import { storeContract, type OpenOptions, type OpenStore } from '../contract.ts';
import { agreesWithTheRules } from '../model.ts';
import { createPlace, type Place } from '../place.ts';
import { openWrapped } from '../wrapped.ts';

const openMemory: OpenStore = (t, options) =>
  openWrapped(t, options, { open: () => Promise.resolve(createMemoryStore(options)) });

storeContract('wrapped memory', openMemory, { canShare: false });
agreesWithTheRules('wrapped memory', openMemory, { canShare: false });

/** One of each per test, however many stores it opens. */
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
