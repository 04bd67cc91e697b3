/** A drain: waiting until nobody uses this Machine, and counting the sessions that live on it. */
import type { Clock } from '../clock.ts';
import type { MachineId } from '../session.ts';
import type { SessionStore } from '../store/store.ts';

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

/**
 * Counts the sessions of this Machine by walking through the store; a call meanwhile waits for the
 * walk in progress. Undefined where the store can't say. Never rejects.
 */
export function createOwnSessionCount(
  store: Pick<SessionStore, 'entries'>,
  self: MachineId,
): () => Promise<number | undefined> {
  let counting: Promise<number | undefined> | undefined;

  const count = async (): Promise<number | undefined> => {
    let own = 0;
    try {
      for await (const { machine } of store.entries()) if (machine === self) own += 1;
      return own;
    } catch {
      // The store reports its failures itself.
      return undefined;
    }
  };

  return () => (counting ??= count().finally(() => (counting = undefined)));
}
