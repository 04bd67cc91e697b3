/**
 * Keys that a request in progress may claim: the app has not accepted them yet. Peers receive these claims,
 * so that no other Machine serves the session meanwhile.
 */
import type { SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import type { Claim } from '../fleet/messages.ts';

/** How long a peer may rely on a pending claim, in ms. */
const PENDING_TTL_MS = 2_000;

export class PendingClaims {
  readonly #clock: Pick<Clock, 'now'>;
  /** The number of requests, and the start of the first, in ms since the epoch. */
  readonly #claims = new Map<SessionKey, { count: number; readonly since: number }>();

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock;
  }

  /** Returns a function that ends this; a second call does nothing. */
  begin(key: SessionKey): () => void {
    const claim = this.#claims.get(key) ?? { count: 0, since: this.#clock.now() };
    claim.count += 1;
    this.#claims.set(key, claim);
    let hasEnded = false;
    return () => {
      if (hasEnded) return;
      hasEnded = true;
      claim.count -= 1;
      if (claim.count === 0) this.#claims.delete(key);
    };
  }

  has(key: SessionKey): boolean {
    return this.#claims.has(key);
  }

  /** The claim that peers receive. */
  claimOf(key: SessionKey): Claim | undefined {
    const claim = this.#claims.get(key);
    if (!claim) return undefined;
    const { since: createdAt } = claim;
    return {
      ...{ generation: 1, origin: 'adopted', createdAt, ttlMs: PENDING_TTL_MS },
      isPending: true,
    } as const;
  }
}
