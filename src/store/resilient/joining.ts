/** What a Machine that joins reads and writes: only while the store is in order, as it may come back later. */
import { enterInto, pagesOf } from '../joining.ts';
import { StoreError, type Owners, type ToldCopy, type ToldPage } from '../store.ts';
import type { Mender } from './mender.ts';
import type { Standby } from './standby.ts';
import type { WriteBack } from './write-back.ts';

export interface JoiningParts {
  readonly mender: Mender;
  readonly writeBack: WriteBack;
  readonly standby: Standby;
}

/** Throws while the store does not hold all that was accepted. */
export function readPages(
  { mender, writeBack }: JoiningParts,
  owners: Owners,
): AsyncIterable<ToldPage> {
  const store = mender.readable;
  if (store === undefined || writeBack.depth > 0) throw notNow();
  return pagesOf(store, owners);
}

/** The local copy takes none of them in: it is for what is in use. */
export async function enterCopies(
  { mender, writeBack, standby }: JoiningParts,
  copies: readonly ToldCopy[],
): Promise<number> {
  const use = writeBack.depth > 0 ? undefined : mender.beginUse('writes');
  if (use === undefined) throw notNow();
  try {
    const entered = await enterInto(use.store, copies);
    use.succeeded();
    for (const copy of copies) forgetOlder(standby, copy);
    return entered;
  } catch (error) {
    // It may just have been too much at once: the other writes say whether writes work.
    use.complained(error);
    throw error;
  }
}

function forgetOlder(standby: Standby, { key, generation, isFromOwner }: ToldCopy): void {
  const known = isFromOwner ? standby.find(key) : undefined;
  if (known?.origin === 'copied' && known.generation < generation) standby.forget(key);
}

function notNow(): StoreError {
  return new StoreError('passing', 'the session store is not in order just now');
}
