/**
 * Damage of the open file: reported once, and from then on the file is neither read nor written.
 * Opening the path again repairs it.
 */
import { toSqliteStoreError } from './errors.ts';
import { fileMoved, haveMoved } from './file.ts';
import type { OpenedFiles } from './file.ts';
import type { RequestKind, RequestOf } from './protocol.ts';
import type { StoreError } from '../store.ts';
import type { Ask } from './write-queue.ts';

export interface DamageWatch {
  readonly found: () => StoreError | undefined;
  /** Reports an error that no caller gets; of several damage reports, only the first. */
  readonly report: (error: StoreError) => void;
  /** Checks whether the file is still at its path. */
  readonly checkFiles: () => void;
  /**
   * Sends a request to the writer. Once there is damage every request is rejected: a write now
   * would be lost with the file.
   */
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
  const reportOnce = (error: StoreError): void => {
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
    report: reportOnce,
    checkFiles: () => {
      if (!damage && haveMoved(path, files)) reportOnce(fileMoved(path));
    },
    ask: async <Kind extends RequestKind>(request: RequestOf<Kind>) => {
      refuse();
      try {
        const response = await ask(request);
        // A read may have found damage meanwhile.
        refuse();
        return response;
      } catch (error) {
        const failure = toSqliteStoreError(`store ${request.kind}`, error);
        // The caller reports any other error.
        if (failure.code === 'damaged') reportOnce(failure);
        throw failure;
      }
    },
  };
}
