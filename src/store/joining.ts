/** The two optional methods of a store, for whoever has one that may lack them. */
import {
  StoreError,
  type Owners,
  type SessionStore,
  type ToldCopy,
  type ToldPage,
} from './store.ts';

/** Throws where there is nothing to hand out. */
export function pagesOf(store: SessionStore, owners: Owners): AsyncIterable<ToldPage> {
  if (store.pages === undefined) throw new StoreError('passing', NOTHING_TO_TELL);
  return store.pages(owners);
}

/** Rejects where copies can't enter. */
export async function enterInto(store: SessionStore, copies: readonly ToldCopy[]): Promise<number> {
  if (store.enter === undefined) throw new StoreError('passing', NOTHING_TO_TELL);
  return store.enter(copies);
}

const NOTHING_TO_TELL = 'this session store neither tells bindings at a join nor takes them';
