/** Waits for what other processes do. */
import { systemClock } from '../../../src/clock.ts';

const TRY_EVERY_MS = 20;
/** So much that only what never happens takes longer, however busy the computer is. */
const GIVE_UP_AFTER_MS = 60_000;

/** Resolves once nothing is missing any more; rejects with what still is when it takes too long. */
export async function until(
  missing: () => readonly string[] | Promise<readonly string[]>,
  giveUpAfterMs = GIVE_UP_AFTER_MS,
): Promise<void> {
  const deadline = systemClock.monotonicMs() + giveUpAfterMs;
  for (;;) {
    const left = await missing();
    if (left.length === 0) return;
    if (systemClock.monotonicMs() > deadline) {
      throw new Error(`still missing after ${giveUpAfterMs} ms: ${left.join('; ')}`);
    }
    await systemClock.sleep(TRY_EVERY_MS);
  }
}
