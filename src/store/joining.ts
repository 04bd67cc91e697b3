/** The two optional methods of a store, for whoever has one that may lack them. */
import {
  StoreError,
  type Owners,
  type SessionStore,
  type PeerCopy,
  type PeerPage,
} from './store.ts';

/** Throws where there is nothing to hand out. */
export function pagesOf(store: SessionStore, owners: Owners): AsyncIterable<PeerPage> {
  if (store.pages === undefined) throw new StoreError('passing', NOTHING_TO_TELL);
  return store.pages(owners);
}

/** Rejects where copies can't enter. */
export async function addCopiesTo(
  store: SessionStore,
  copies: readonly PeerCopy[],
): Promise<number> {
  if (store.addCopies === undefined) throw new StoreError('passing', NOTHING_TO_TELL);
  return store.addCopies(copies);
}

const NOTHING_TO_TELL = 'this session store neither tells bindings at a join nor takes them';
