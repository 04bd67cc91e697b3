/** A store that tells a tally what it is asked and what it answers; it is as the store behind it. */
import type { Binding, SessionKey } from '../session.ts';
import { enterInto, pagesOf } from './joining.ts';
import type { Lookup, SessionStore } from './store.ts';
import type { Tally } from './session-counter.ts';

type Listener = Pick<Tally, 'note' | 'slide' | 'shorten' | 'forget'>;

/** The request path, the peers and the admin port all write through it, so none is forgotten. */
export function createCountedStore(store: SessionStore, tally: Listener): SessionStore {
  const heard = <Found extends Lookup | undefined>(key: SessionKey, found: Found): Found => {
    if (typeof found === 'object') tally.note(found);
    else if (found !== 'unknown') tally.forget(key);
    return found;
  };
  const held = (binding: Binding): Binding => heard(binding.key, binding);

  return {
    kind: store.kind,
    // Not while it fails: then the owners themselves are asked.
    get isShared() {
      return store.isShared;
    },
    lookup: (key) => {
      const found = store.lookup(key);
      return found instanceof Promise
        ? found.then((lookup) => heard(key, lookup))
        : heard(key, found);
    },
    claim: async (binding) => held(await store.claim(binding)),
    upsert: async (binding) => held(await store.upsert(binding)),
    rebind: async (key, ...how) => heard(key, await store.rebind(key, ...how)),
    touch: async (key, ttlMs) => {
      const isThere = await store.touch(key, ttlMs);
      if (isThere) tally.slide(key, ttlMs);
      else tally.forget(key);
      return isThere;
    },
    expireWithin: async (key, ttlMs) => {
      const isThere = await store.expireWithin(key, ttlMs);
      if (isThere) tally.shorten(key, ttlMs);
      else tally.forget(key);
      return isThere;
    },
    delete: async (key, ifMachine) => {
      const isRemoved = await store.delete(key, ifMachine);
      if (isRemoved) tally.forget(key);
      return isRemoved;
    },
    cleanup: () => store.cleanup(),
    entries: () => store.entries(),
    pages: (owners) => pagesOf(store, owners),
    // None of them is a session of this Machine.
    enter: (copies) => enterInto(store, copies),
    getMetrics: () => store.getMetrics(),
    close: () => store.close(),
  };
}
