/** How long a drain takes, and the sessions that it leaves. */
import type { Clock } from '../clock.ts';
import type { MachineId } from '../session.ts';
import type { SessionStore } from '../store/store.ts';

interface AwaitDrainedOptions {
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** Ends the waiting. */
  readonly signal: AbortSignal;
  /** 0 if no client uses this Machine; else the time, in ms, after which to check again. */
  readonly msUntilQuiet: () => number;
}

/** Resolves when no client uses this Machine, at the timeout, or when `signal` aborts; never rejects. */
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
 * walk in progress. Undefined if the store fails. Never rejects.
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
