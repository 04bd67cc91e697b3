/**
 * What a joining Machine reads and writes: only while the store is healthy; a join may be repeated
 * later.
 */
import { addCopiesTo, pagesOf } from '../peer-pages.ts';
import { StoreError, type Owners, type PeerCopy, type PeerPage } from '../store.ts';
import type { StoreSupervisor } from './supervisor.ts';
import type { LocalCopy } from './local-copy.ts';
import type { Outbox } from './outbox.ts';

export interface JoiningParts {
  readonly supervisor: StoreSupervisor;
  readonly outbox: Outbox;
  readonly localCopy: LocalCopy;
}

/** Throws while the store does not hold all accepted changes. */
export function readPages(
  { supervisor, outbox }: JoiningParts,
  owners: Owners,
): AsyncIterable<PeerPage> {
  const store = supervisor.readable;
  if (store === undefined || outbox.depth > 0) throw notNow();
  return pagesOf(store, owners);
}

/** The local copy takes none of them: it is for sessions in use. */
export async function enterCopies(
  { supervisor, outbox, localCopy }: JoiningParts,
  copies: readonly PeerCopy[],
): Promise<number> {
  const use = outbox.depth > 0 ? undefined : supervisor.begin('writes');
  if (use === undefined) throw notNow();
  try {
    const entered = await addCopiesTo(use.store, copies);
    use.succeeded();
    for (const copy of copies) forgetOlder(localCopy, copy);
    return entered;
  } catch (error) {
    // The store may just have been overloaded: the other writes show whether writes work.
    use.failedAlone(error);
    throw error;
  }
}

function forgetOlder(localCopy: LocalCopy, { key, generation, isFromOwner }: PeerCopy): void {
  const known = isFromOwner ? localCopy.find(key) : undefined;
  if (known?.origin === 'copied' && known.generation < generation) localCopy.forget(key);
}

function notNow(): StoreError {
  return new StoreError('passing', 'the session store is not healthy');
}
