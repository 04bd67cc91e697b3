/**
 * A token bucket that many sources share. A source within its own small share may take the last
 * token; one beyond it only what exceeds the reserve. So a flood costs its sender alone.
 */
import { detachedCopy } from '../session.ts';
import type { Clock } from '../clock.ts';
import { createTokenBucket, type TakeToken } from './token-bucket.ts';

export interface FairShareOptions {
  readonly ratePerSecond: number;
  /** What the bucket holds when it is full, as it is at first. */
  readonly burst: number;
  /** Of each source. */
  readonly share: { readonly ratePerSecond: number; readonly burst: number };
  /** Tokens that only sources within their share may take. */
  readonly reserve: number;
  readonly clock: Clock;
  readonly maxSources?: number;
}

/** Where a request comes from: its connection, or its address where the edge names it. */
export type Source = string | object;

/**
 * Takes a token if the source may have one. Who names no source has no share of its own. Without
 * `mayTakeReserve` it takes nothing of a share and leaves the reserve to others.
 */
export type TakeFairToken = (source: Source | undefined, mayTakeReserve?: boolean) => boolean;

/** Beyond it the source seen longest ago starts anew with a full share. */
const MAX_SOURCES = 10_000;

export function createFairShare(options: FairShareOptions): TakeFairToken {
  const { clock, share, reserve, maxSources = MAX_SOURCES } = options;
  const takeOfAll = createTokenBucket(options);
  const shares = new Map<Source, TakeToken>();

  /** The one seen longest ago comes first. */
  function shareOf(source: Source): TakeToken {
    const take = shares.get(source) ?? createTokenBucket({ ...share, clock });
    shares.delete(source);
    // An address is a part of its request's head, which is not to stay in memory with it.
    shares.set(typeof source === 'string' ? detachedCopy(source) : source, take);
    const [oldest] = shares.keys();
    if (shares.size > maxSources && oldest !== undefined) shares.delete(oldest);
    return take;
  }

  return (source, mayTakeReserve = true) => {
    const isWithinShare = mayTakeReserve && (source === undefined || shareOf(source)());
    return takeOfAll(isWithinShare ? 0 : reserve);
  };
}
