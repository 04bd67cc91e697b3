/** Token buckets: one for a single caller, and one that many sources share fairly. */
import { detachedCopy } from '../session.ts';
import type { Clock } from '../clock.ts';

interface TokenRate {
  readonly ratePerSecond: number;
  /** The size of the bucket, which starts full. */
  readonly burst: number;
}

/** Takes one token if there are more than `reserve` (0 by default), and returns whether it did. */
type TakeToken = (reserve?: number) => boolean;

export function createTokenBucket(options: TokenRate & { readonly clock: Clock }): TakeToken {
  const { ratePerSecond, burst, clock } = options;
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

export interface FairShareOptions extends TokenRate {
  /** The share of each source. */
  readonly share: TokenRate;
  /** Tokens that only sources within their share may take. */
  readonly reserve: number;
  readonly clock: Clock;
  readonly maxSources?: number;
}

/** The source of a request: its connection, or its client's address if the edge names it. */
export type Source = string | object;

/**
 * Takes a token if the source may have one. Requests without a source have no share of their own.
 * Without `mayTakeReserve` it takes nothing from a share and leaves the reserve to others.
 */
export type TakeFairToken = (source: Source | undefined, mayTakeReserve?: boolean) => boolean;

/** Beyond this number, the least recent source is dropped and starts again with a full share. */
const MAX_SOURCES = 10_000;

/**
 * A token bucket for many sources. A source within its own small share may take the last token; one
 * beyond it takes only what exceeds the reserve. So a flood costs only its sender.
 */
export function createFairShare(options: FairShareOptions): TakeFairToken {
  const { clock, share, reserve, maxSources = MAX_SOURCES } = options;
  const takeShared = createTokenBucket(options);
  /** The source seen longest ago comes first. */
  const shares = new Map<Source, TakeToken>();

  function shareOf(source: Source): TakeToken {
    const take = shares.get(source) ?? createTokenBucket({ ...share, clock });
    shares.delete(source);
    // An address is part of a request head, which must not stay in memory with it.
    shares.set(typeof source === 'string' ? detachedCopy(source) : source, take);
    const [oldest] = shares.keys();
    if (shares.size > maxSources && oldest !== undefined) shares.delete(oldest);
    return take;
  }

  return (source, mayTakeReserve = true) => {
    const isWithinShare = mayTakeReserve && (source === undefined || shareOf(source)());
    return takeShared(isWithinShare ? 0 : reserve);
  };
}
