/** Waits for effects of other processes. */
import { systemClock } from '../../../src/clock.ts';

const TRY_EVERY_MS = 20;
/** So long that only an event that never happens takes longer, however busy the computer is. */
const TIMEOUT_MS = 60_000;

/** Resolves once nothing is missing any more; rejects with what is missing at the timeout. */
export async function until(
  missing: () => readonly string[] | Promise<readonly string[]>,
  timeoutMs = TIMEOUT_MS,
): Promise<void> {
  const deadline = systemClock.monotonicMs() + timeoutMs;
  for (;;) {
    const left = await missing();
    if (left.length === 0) return;
    if (systemClock.monotonicMs() > deadline) {
      throw new Error(`still missing after ${timeoutMs} ms: ${left.join('; ')}`);
    }
    await systemClock.sleep(TRY_EVERY_MS);
  }
}
