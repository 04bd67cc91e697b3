/** For clients that take "later" (503) for the end of their session, and start anew. */
import { MAX_TRIES } from './patient-fetch.ts';

/** A request was answered 503: a peer has been silent for too long on a busy computer. */
export class ToldLater extends Error {
  override readonly name = 'ToldLater';
}

/** Tells the whole of it again as long as it ends with {@link ToldLater}. */
export async function tellUntilHeard(tellOnce: () => Promise<void>): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await tellOnce();
      return;
    } catch (error) {
      if (!(error instanceof ToldLater) || tries === MAX_TRIES) throw error;
    }
  }
}
