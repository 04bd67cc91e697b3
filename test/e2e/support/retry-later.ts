/** For clients that take a 503 for the end of their session, and start a new one. */
import { MAX_TRIES } from './retrying-fetch.ts';

/** A request got a 503: a peer has been unresponsive for too long on a busy computer. */
export class RetryLaterError extends Error {
  override readonly name = 'RetryLaterError';
}

/** Repeats the whole scenario while it ends with {@link RetryLaterError}. */
export async function retryWhileUnavailable(runOnce: () => Promise<void>): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await runOnce();
      return;
    } catch (error) {
      if (!(error instanceof RetryLaterError) || tries === MAX_TRIES) throw error;
    }
  }
}
