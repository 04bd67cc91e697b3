/** Waiting, but not for ever. */
import type { Clock } from '../clock.ts';
import { StoreError } from './store.ts';

/**
 * Settles as `work` does, or rejects after `limitMs`: what comes of the work then is nobody's any
 * more. `doing` begins the sentence of the error.
 */
export function inTime<Result>(
  clock: Clock,
  limitMs: number,
  work: Promise<Result>,
  doing: string,
): Promise<Result> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(limitMs, () => {
      reject(new StoreError('passing', `${doing} has taken longer than ${limitMs} ms`));
    });
    void work.then(resolve, reject).finally(cancel);
  });
}
