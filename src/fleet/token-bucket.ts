/** A token bucket: so many at once, and so many a second from then on. */
import type { Clock } from '../clock.ts';

export interface TokenBucketOptions {
  readonly ratePerSecond: number;
  /** What it holds when it is full, as it is at first. */
  readonly burst: number;
  readonly clock: Clock;
}

/** Takes one token if there are more than `reserve` (0 unless given), and says whether it did. */
export type TakeToken = (reserve?: number) => boolean;

export function createTokenBucket({ ratePerSecond, burst, clock }: TokenBucketOptions): TakeToken {
  let tokens = burst;
  let filledAtMs = clock.monotonicMs();

  return (reserve = 0) => {
    const nowMs = clock.monotonicMs();
    tokens = Math.min(burst, tokens + ((nowMs - filledAtMs) / 1_000) * ratePerSecond);
    filledAtMs = nowMs;
    if (tokens < reserve + 1) return false;
    tokens -= 1;
    return true;
  };
}
