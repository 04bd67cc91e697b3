/**
 * Resolves conflicts between what peers claim and what this Machine owns:
 *
 *     peer claims K ─ we own K ─ ours outranks ──────> kept: the peer is told our claim
 *                   │          └ theirs outranks ────> yielded: copy stored, session released
 *                   ├ K is served here, not yet claimed ─> yielded, with nothing to release
 *                   └ neither ───────────────────────> copy stored, unless another's outranks it
 *
 * What concerns one key is done in order: each decision sees what the one before it has written.
 */
import type { Binding, MachineId, SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import type { Lookup, SessionStore } from '../store/store.ts';
import { claimOf, outranks, releaseTo, storeCopy, type Claimant } from './claims.ts';
import { createHeardClaims, type HeardClaims } from './heard-claims.ts';
import { createKeyOrder } from './key-order.ts';
import type { Claim, KeyResponse } from './messages.ts';

export interface ClaimResolverOptions {
  readonly self: MachineId;
  readonly store: SessionStore;
  readonly clock: Clock;
  /**
   * Whether the store holds what this Machine owns: false while it starts and while it is degraded,
   * but not while it drains, as its sessions are still its own.
   */
  readonly isReady: () => boolean;
  /** What this Machine will claim once the app accepts: a request for the key is being served. */
  readonly pendingClaimOf?: (key: SessionKey) => Claim | undefined;
  /** Whether a binding of ours counts for nothing: it was made to a process of the app that has ended. */
  readonly isVoid?: (binding: Binding) => boolean;
  /** Another Machine claims what we own too: we have `kept` it, or `yielded`. */
  readonly onConflict?: (outcome: 'kept' | 'yielded') => void;
  /** A session of this Machine belongs to another now. Called once, when that is stored. */
  readonly onReleased?: (key: SessionKey, winner: MachineId) => void;
  /** The store failed; the peer got `unknown`, or its announcement was lost. */
  readonly onError?: (error: unknown) => void;
}

export interface ClaimResolver {
  /** What we say of the key to a peer that may claim it. Never rejects. */
  answerQuery(key: SessionKey, from: MachineId, claim: Claim | undefined): Promise<KeyResponse>;
  /**
   * Takes note of what a peer owns; returns our claim if we keep the key, and `unknown` where the store
   * can't tell now: the peer has to say it again. Never rejects.
   */
  onAnnouncement(key: SessionKey, from: MachineId, claim: Claim): Promise<AnnouncementResponse>;
  /** Waits for what is under way. */
  idle(): Promise<void>;
}

export type AnnouncementResponse = Claim | 'unknown' | undefined;

export function createClaimResolver(options: ClaimResolverOptions): ClaimResolver {
  return new StoreClaimResolver(options);
}

/** Our claim to a key; `isPending`: the store does not have it yet. */
interface OwnClaim {
  readonly claim: Claim;
  readonly isPending: boolean;
}

class StoreClaimResolver implements ClaimResolver {
  readonly #options: ClaimResolverOptions;
  readonly #heard: HeardClaims;
  readonly #order = createKeyOrder();

  constructor(options: ClaimResolverOptions) {
    this.#options = options;
    this.#heard = createHeardClaims(options.clock);
  }

  answerQuery(key: SessionKey, from: MachineId, claim: Claim | undefined): Promise<KeyResponse> {
    if (!this.#options.isReady()) return Promise.resolve('unknown');
    return this.#inOrder<KeyResponse>(key, 'unknown', (found) => {
      const own = this.#ownClaim(key, found);
      if (!own) return found === 'unknown' ? 'unknown' : 'no';
      if (!claim) return own.claim;
      return this.#resolve(key, own, { ...claim, machine: from }).then((kept) => kept ?? 'no');
    });
  }

  onAnnouncement(key: SessionKey, from: MachineId, claim: Claim): Promise<AnnouncementResponse> {
    const theirs = { ...claim, machine: from };
    return this.#inOrder<AnnouncementResponse>(key, 'unknown', (found) => {
      if (found === 'unknown') return 'unknown';
      const own = this.#ownClaim(key, found);
      if (own) return this.#resolve(key, own, theirs);
      if (this.#isOurs(found)) return this.#yieldVoid(key, theirs).then(() => undefined);
      return this.#copy(key, found, theirs).then(() => undefined);
    });
  }

  idle(): Promise<void> {
    return this.#order.ended();
  }

  /** `decide` is called in the turn of the lookup where that needs no waiting: nothing is written between. */
  #inOrder<Result>(
    key: SessionKey,
    ifFailed: Result,
    decide: (found: Lookup) => Result | Promise<Result>,
  ): Promise<Result> {
    return this.#order.run(key, async () => {
      try {
        const looked = this.#options.store.lookup(key);
        return await decide(looked instanceof Promise ? await looked : looked);
      } catch (error) {
        this.#options.onError?.(error);
        return ifFailed;
      }
    });
  }

  #ownClaim(key: SessionKey, found: Lookup): OwnClaim | undefined {
    const { clock, pendingClaimOf, isVoid } = this.#options;
    if (found === 'absent') {
      const claim = pendingClaimOf?.(key);
      return claim && { claim, isPending: true };
    }
    if (!this.#isOurs(found) || isVoid?.(found)) return undefined;
    return { claim: claimOf(found, found.expiresAt - clock.now()), isPending: false };
  }

  #isOurs(found: Lookup): found is Binding {
    return typeof found === 'object' && found.machine === this.#options.self;
  }

  async #yieldVoid(key: SessionKey, theirs: Claimant): Promise<void> {
    const { self, store } = this.#options;
    this.#heard.add(key, theirs);
    await releaseTo(store, self, key, theirs);
  }

  /** Our claim if the key stays ours; else theirs is stored. */
  async #resolve(
    key: SessionKey,
    { claim, isPending }: OwnClaim,
    theirs: Claimant,
  ): Promise<Claim | undefined> {
    const { self, store, onConflict, onReleased } = this.#options;
    // What is pending takes nothing away: our app may refuse it, and theirs has accepted.
    if (outranks(key, { ...claim, machine: self }, theirs)) {
      onConflict?.('kept');
      return claim;
    }
    this.#heard.add(key, theirs);
    await (isPending ? storeCopy(store, key, theirs) : releaseTo(store, self, key, theirs));
    onConflict?.('yielded');
    if (!isPending) onReleased?.(key, theirs.machine);
    return undefined;
  }

  async #copy(key: SessionKey, found: Lookup, theirs: Claimant): Promise<void> {
    const { store } = this.#options;
    const isCopyOfOther =
      typeof found === 'object' && found.origin === 'copied' && found.machine !== theirs.machine;
    if (!isCopyOfOther) {
      this.#heard.add(key, theirs);
      await storeCopy(store, key, theirs);
      return;
    }
    if (found.generation > theirs.generation) return;
    const heard = this.#heard.get(key);
    // What a peer says of itself later counts, unless it is known to have lost.
    const isOutranked = heard?.machine === found.machine && outranks(key, heard, theirs);
    if (isOutranked && heard.generation === found.generation) return;
    this.#heard.add(key, theirs);
    await releaseTo(store, found.machine, key, theirs);
  }
}
