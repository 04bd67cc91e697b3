/** Waiting until nobody uses this Machine any more, and no longer than there is time for. */
import type { Clock } from '../clock.ts';

export interface AwaitDrainedOptions {
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** Ends the waiting. */
  readonly signal: AbortSignal;
  /** 0: nobody does. Else the time, in ms, after which to ask again. */
  readonly msUntilQuiet: () => number;
}

/** Resolves when nobody does, when the time is over or when `signal` aborts; never rejects. */
export async function awaitDrained(options: AwaitDrainedOptions): Promise<void> {
  const { clock, timeoutMs, signal, msUntilQuiet } = options;
  const deadline = clock.monotonicMs() + timeoutMs;
  while (!signal.aborted) {
    const waitMs = Math.min(msUntilQuiet(), deadline - clock.monotonicMs());
    if (waitMs <= 0) return;
    await clock.sleep(waitMs, signal);
  }
}
