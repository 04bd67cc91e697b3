/** The time that an answer of Postgres may take. */
import type { Cancel, Clock } from '../../clock.ts';
import { StoreError } from '../store.ts';

/** Calls `onLate` with a `passing` error once `ms` are over. */
export function startLimit(clock: Clock, ms: number, onLate: (error: StoreError) => void): Cancel {
  return clock.after(ms, () => {
    const error = new StoreError('passing', `Postgres has not answered within ${ms} ms`);
    // While this process was busy an answer may have come that is still to be read.
    setImmediate(() => onLate(error));
  });
}
