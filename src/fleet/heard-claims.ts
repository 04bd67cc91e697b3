/**
 * What peers have claimed lately. A copy in the store has no origin, so it alone does not say whether
 * its owner outranks another claimant whose announcement comes later than it was sent.
 */
import type { SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import type { Claimant } from './claims.ts';

export interface HeardClaims {
  /** Replaces what was heard of the key before. */
  add(key: SessionKey, claimant: Claimant): void;
  get(key: SessionKey): Claimant | undefined;
}

/** Longer than an announcement is on its way; a session that ends may begin elsewhere after it. */
const REMEMBERED_MS = 10_000;
/** Beyond it the oldest is forgotten: the claim that comes last counts then. */
const MAX_REMEMBERED = 4_096;

interface Heard {
  readonly claimant: Claimant;
  readonly atMs: number;
}

export function createHeardClaims(clock: Pick<Clock, 'monotonicMs'>): HeardClaims {
  /** The oldest comes first. */
  const heard = new Map<SessionKey, Heard>();

  const forgetOld = (): void => {
    const oldestMs = clock.monotonicMs() - REMEMBERED_MS;
    for (const [key, { atMs }] of heard) {
      if (atMs > oldestMs && heard.size <= MAX_REMEMBERED) return;
      heard.delete(key);
    }
  };

  return {
    add: (key, claimant) => {
      heard.delete(key);
      heard.set(key, { claimant, atMs: clock.monotonicMs() });
      forgetOld();
    },
    get: (key) => {
      forgetOld();
      return heard.get(key)?.claimant;
    },
  };
}
