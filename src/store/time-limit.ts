/** Bounds on how long a caller waits for a store. */
import type { Cancel, Clock } from '../clock.ts';
import { StoreError } from './store.ts';

/**
 * Settles as `work` does, or rejects after `limitMs`; a later result of the work is ignored.
 * `doing` begins the text of the error.
 */
export function withinTime<Result>(
  clock: Clock,
  limitMs: number,
  work: Promise<Result>,
  doing: string,
): Promise<Result> {
  return createTimeLimit(clock, limitMs, doing)(work);
}

/**
 * {@link withinTime} for many works with one timer: a timer each would cost more than most works
 * take. No timer runs while nothing waits.
 */
export type TimeLimit = <Result>(work: Promise<Result>) => Promise<Result>;

/**
 * Calls `onLate` once the time is over. If this process was busy, a response may have arrived that
 * is not read yet: it is read first.
 */
export function startTimeLimit(clock: Clock, limitMs: number, onLate: () => void): Cancel {
  return clock.after(Math.max(0, limitMs), () => void setImmediate(onLate));
}

interface Waiting {
  readonly untilMs: number;
  readonly reject: (error: StoreError) => void;
}

export function createTimeLimit(clock: Clock, limitMs: number, doing: string): TimeLimit {
  /** The first to expire comes first, as all have the same limit. */
  const waiting = new Set<Waiting>();
  let cancel: Cancel | undefined;

  const setTimer = (): void => {
    const [first] = waiting;
    cancel = first && startTimeLimit(clock, first.untilMs - clock.monotonicMs(), expire);
  };
  const expire = (): void => {
    const now = clock.monotonicMs();
    for (const each of waiting) {
      if (each.untilMs > now) break;
      waiting.delete(each);
      each.reject(new StoreError('passing', `${doing} has taken longer than ${limitMs} ms`));
    }
    setTimer();
  };
  const end = (each: Waiting): void => {
    if (!waiting.delete(each) || waiting.size > 0) return;
    cancel?.();
    cancel = undefined;
  };

  return (work) =>
    new Promise((resolve, reject) => {
      const each = { untilMs: clock.monotonicMs() + limitMs, reject };
      waiting.add(each);
      if (!cancel) setTimer();
      work.then(
        (result) => {
          end(each);
          resolve(result);
        },
        (error: unknown) => {
          end(each);
          reject(error instanceof Error ? error : new Error(String(error)));
        },
      );
    });
}
