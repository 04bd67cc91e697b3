/** Passes every call to the store behind it, and reports the results to a session counter. */
import type { Binding, SessionKey } from '../session.ts';
import { addCopiesTo, pagesOf } from './joining.ts';
import type { Lookup, SessionStore } from './store.ts';
import type { SessionCounter } from './session-counter.ts';

type Listener = Pick<SessionCounter, 'note' | 'slide' | 'shorten' | 'forget'>;

/** The request path, the peers and the admin port all write through it, so none is forgotten. */
export function createCountedStore(store: SessionStore, counter: Listener): SessionStore {
  const heard = <Found extends Lookup | undefined>(key: SessionKey, found: Found): Found => {
    if (typeof found === 'object') counter.note(found);
    else if (found !== 'unknown') counter.forget(key);
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
      if (isThere) counter.slide(key, ttlMs);
      else counter.forget(key);
      return isThere;
    },
    expireWithin: async (key, ttlMs) => {
      const isThere = await store.expireWithin(key, ttlMs);
      if (isThere) counter.shorten(key, ttlMs);
      else counter.forget(key);
      return isThere;
    },
    delete: async (key, ifMachine) => {
      const isRemoved = await store.delete(key, ifMachine);
      if (isRemoved) counter.forget(key);
      return isRemoved;
    },
    cleanup: () => store.cleanup(),
    entries: () => store.entries(),
    pages: (owners) => pagesOf(store, owners),
    // None of them is a session of this Machine.
    addCopies: (copies) => addCopiesTo(store, copies),
    getMetrics: () => store.getMetrics(),
    close: () => store.close(),
  };
}
