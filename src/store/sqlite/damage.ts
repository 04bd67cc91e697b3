/**
 * What is found wrong with the open file: told once, and from then on the file is neither believed
 * nor written. Opening the path anew mends it.
 */
import { toSqliteStoreError } from './errors.ts';
import { fileMoved, haveMoved } from './file.ts';
import type { OpenedFiles } from './file.ts';
import type { RequestKind, RequestOf } from './protocol.ts';
import type { StoreError } from '../store.ts';
import type { Ask } from './write-queue.ts';

export interface DamageWatch {
  readonly found: () => StoreError | undefined;
  /** Passes an error on of which no caller hears; of several that tell of damage, the first. */
  readonly report: (error: StoreError) => void;
  /** Looks whether the file is still where it was opened. */
  readonly checkFiles: () => void;
  /** Asks the writer. Once there is damage all is rejected: what is written now goes with the file. */
  readonly ask: Ask;
}

export interface DamageWatchOptions {
  readonly path: string;
  readonly files: OpenedFiles;
  readonly ask: Ask;
  readonly onError: ((error: StoreError) => void) | undefined;
}

export function watchForDamage({ path, files, ask, onError }: DamageWatchOptions): DamageWatch {
  let damage: StoreError | undefined;
  const tell = (error: StoreError): void => {
    if (error.code === 'damaged') {
      if (damage) return;
      damage = error;
    }
    onError?.(error);
  };
  const refuse = (): void => {
    if (damage) throw damage;
  };
  return {
    found: () => damage,
    report: tell,
    checkFiles: () => {
      if (!damage && haveMoved(path, files)) tell(fileMoved(path));
    },
    ask: async <Kind extends RequestKind>(request: RequestOf<Kind>) => {
      refuse();
      try {
        const answer = await ask(request);
        // A read may have found some meanwhile.
        refuse();
        return answer;
      } catch (error) {
        const failure = toSqliteStoreError(`store ${request.kind}`, error);
        // Any other is the caller's to tell.
        if (failure.code === 'damaged') tell(failure);
        throw failure;
      }
    },
  };
}
