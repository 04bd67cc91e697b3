/** Waiting until nothing is left to serve, and no longer than there is time for. */
import type { Clock } from './clock.ts';

export interface AwaitDrainedOptions {
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** Ends the waiting. */
  readonly signal: AbortSignal;
  /** Never rejects. It may take its time, or never answer, as a disk that hangs: it is not waited for then. */
  readonly hasWorkLeft: () => Promise<boolean>;
}

/** How often it is looked whether anything is left, in ms. */
const CHECK_MS = 1_000;

/** Resolves when nothing is left, when the time is over or when `signal` aborts; never rejects. */
export async function awaitDrained(options: AwaitDrainedOptions): Promise<void> {
  const { clock, timeoutMs, signal } = options;
  const ended = new AbortController();
  const either = AbortSignal.any([signal, ended.signal]);
  const timeIsOver = clock.sleep(timeoutMs, either);
  await Promise.race([timeIsOver, untilNothingIsLeft({ ...options, signal: either })]);
  ended.abort();
}

async function untilNothingIsLeft({
  clock,
  signal,
  hasWorkLeft,
}: AwaitDrainedOptions): Promise<void> {
  while (!signal.aborted && (await hasWorkLeft())) await clock.sleep(CHECK_MS, signal);
}
