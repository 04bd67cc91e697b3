/**
 * The only place that reads time and sets timers. Everything else is handed a {@link Clock}, so
 * that a test decides what time it is.
 */

/** Ends a timer. Calling it twice, or after the timer has fired, does nothing. */
export type Cancel = () => void;

export interface Clock {
  /** Wall time in ms since the epoch: for expiry, which outlives a restart. */
  now(): number;
  /** Monotonic time in ms, fractional: for measuring how long something took. */
  monotonicMs(): number;
  /** Resolves after `ms`, or at once when `signal` aborts; never rejects. Keeps the process alive. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls `fn` once after `ms`. Does not keep the process alive. */
  after(ms: number, fn: () => void): Cancel;
  /** Calls `fn` every `ms`. Does not keep the process alive. */
  every(ms: number, fn: () => void): Cancel;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) {
        resolve();
        return;
      }
      const done = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal?.addEventListener('abort', done);
    }),
  after: (ms, fn) => {
    const timer = setTimeout(fn, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
  every: (ms, fn) => {
    const timer = setInterval(fn, ms);
    timer.unref();
    return () => clearInterval(timer);
  },
};
